"""Rounding on an accelerator: the codes of the CPU, and no tensor of the wrong place."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.block_rounding import Block
from fairquant_fair.fair_gptq import FairGptq
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from fairquant_rivals.gptq import Gptq
from fairquant_rivals.nearest import Nearest
from helpers.elsewhere import ELSEWHERE, Elsewhere, accelerator, back, moved
from helpers.rounding import batches, rounder
from torch import nn

from fairquant.bits import find_layers
from fairquant.rounding.expected import errors_of_all, observe

QUANTIZERS = [Uniform(), Uniform("learned"), Baq(), CodebookEma()]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip


def both(work) -> list:
    """What `work(network, batches)` gives here and there."""
    here, there = network(), moved(network())
    results = [work(here, batches())]
    with accelerator():
        results.append(work(there, [moved(batch) for batch in batches()]))
    return results


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize(
    "rounding", [Nearest(), Gptq(), FairGptq(), Block(steps=4)], ids=lambda each: type(each).__name__
)
def test_every_rounding_gives_the_codes_of_the_cpu(quantizer, rounding):
    here, there = both(lambda net, seen: rounder(net, rounding, quantizer=quantizer).round(seen))
    for name, rounded in here.items():
        assert there[name].weight.codes.device == ELSEWHERE
        assert torch.equal(back(there[name].weight.codes), rounded.weight.codes), name


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_errors_after_compensation_are_those_of_the_cpu(quantizer):
    def errors(net, seen):
        layers = find_layers(net, "channel")
        return errors_of_all(layers, quantizer, (0, 1, 2, 4), observe(net, layers, seen))

    here, there = both(errors)
    for name, found in here.items():
        torch.testing.assert_close(back(there[name]), found)


def test_the_helper_refuses_what_a_gpu_refuses():
    with accelerator():
        far, near = torch.ones(3).to(ELSEWHERE), torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            far + near
        with pytest.raises(RuntimeError, match="same device"):
            near[far.long()]
        with pytest.raises(TypeError, match="NumPy"):
            far.numpy()
        assert isinstance(far * 2 + near.sum(), Elsewhere) and float((far.cpu() + near).sum()) == 6
