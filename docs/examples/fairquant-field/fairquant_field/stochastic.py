"""Stochastic rounding: up or down with probabilities that keep the mean (Gupta et al., arXiv 1502.02551)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from fairquant.roles import Rounded, RoundingProblem
from fairquant.rounding.levels import levels_of


@dataclass(frozen=True)
class Stochastic:
    """Each weight becomes one of its two neighbouring points, the nearer one more often. The draw depends on the layer's name, its
    shape and `seed`."""

    seed: int = 0
    needs: ClassVar[frozenset[str]] = frozenset()

    def round(self, problem: RoundingProblem) -> Rounded:
        levels = levels_of(problem.grid)
        near = levels.nearest(problem.weight)
        step = torch.where(levels.values(near) < problem.weight, 1, -1)
        other = torch.minimum((near + step).clamp_min(0), levels.last[:, None])
        low, high = levels.values(near), levels.values(other)
        share = ((problem.weight - low) / (high - low)).nan_to_num(0.0, 0.0, 0.0).clamp(0, 0.5)  # of the other point
        draw = torch.Generator().manual_seed(zlib.crc32(problem.layer.encode()) + self.seed)
        numbers = torch.where(torch.rand(share.shape, generator=draw) < share, other, near)
        return Rounded(weight=levels.stored(numbers))
