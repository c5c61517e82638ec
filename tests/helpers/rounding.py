"""A rounder of any network, and calibration images of two groups."""

from __future__ import annotations

import torch
from fairquant_paper.uniform import Uniform

from fairquant.bits import find_layers, plan_of
from fairquant.roles import Batch
from fairquant.rounding.stage import Rounder


def batches(count: int = 3, size: int = 8, pixels: int = 16) -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    return [
        Batch(
            torch.randn(size, 3, pixels, pixels, generator=draw),
            torch.zeros(size, dtype=torch.long),
            torch.arange(size) % 2,
        )
        for _ in range(count)
    ]


def rounder(network, rounding, bits: int = 3, quantizer=None, unit="channel", **more) -> Rounder:
    layers = find_layers(network, unit)
    plan = plan_of(layers, torch.full((sum(layer.units for layer in layers),), bits))
    return Rounder(
        network=network, layers=layers, quantizer=quantizer or Uniform(), plan=plan, choices=(bits,), rounding=rounding,
        group_names=("a", "b"), **more,
    )  # fmt: skip
