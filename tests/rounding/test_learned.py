"""Learned rounding of one layer: where it starts, and what gradients it gets."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma

from fairquant.roles import Rounded, RoundingProblem
from fairquant.rounding.learned import LearnedLayer


def problem_of(quantizer, has_bias: bool = True) -> RoundingProblem:
    torch.manual_seed(0)
    weight, bits = torch.randn(18, 40), torch.arange(18) % 9
    built = quantizer.build(weight, bits, tuple(range(9)))
    built.freeze(bits)
    return RoundingProblem(layer="x", weight=weight, grid=built.eval().encode(weight), groups=("a",), has_bias=has_bias)


@pytest.mark.parametrize("quantizer", [Uniform(), Uniform("absmax"), Baq(), Baq("step"), CodebookEma()], ids=str)
@pytest.mark.parametrize("towards", [0.0, 0.5, 0.95])
def test_it_starts_at_exactly_what_was_chosen(quantizer, towards):
    problem = problem_of(quantizer)
    moved = problem.grid.__class__(**{**problem.grid.__dict__, "codes": problem.grid.codes.roll(1, 1)})
    for chosen in (problem.grid, moved):  # not only the nearest points
        layer = LearnedLayer(problem, Rounded(weight=chosen, bias=torch.arange(18.0)), towards)
        weight, bias = layer()
        assert torch.allclose(weight, chosen.decode(), atol=1e-6)
        assert torch.allclose(bias, torch.arange(18.0), atol=1e-5)
        assert torch.equal(layer.rounded().weight.codes, chosen.codes)
        assert torch.allclose(layer.rounded().weight.decode(), chosen.decode(), atol=1e-6)


def test_the_gradients_are_those_of_learned_step_size_quantization():
    problem = problem_of(Uniform())
    layer = LearnedLayer(problem, Rounded(weight=problem.grid), 0.9)
    with torch.no_grad():
        layer.latent[5, 0] = 1e3  # beyond the grid: 5 bits, codes to 15
    layer()[0].sum().backward()
    assert layer.latent.grad[5, 0] == 0
    step = problem.grid.scale[5]
    assert torch.allclose(layer.latent.grad[5, 1:], step.expand(39), atol=1e-6)
    code, latent = layer.rounded().weight.codes[5].float(), layer.latent[5].detach()
    inside = code - latent
    inside[0] = 15.0
    inside[latent.abs() > 15.5] = code[latent.abs() > 15.5]
    assert float(layer.log_scale.grad[5]) == pytest.approx(float(inside.sum() * step), rel=1e-3)


def test_a_layer_without_a_bias_learns_none():
    problem = problem_of(Uniform(), has_bias=False)
    layer = LearnedLayer(problem, Rounded(weight=problem.grid), 0.5)
    assert layer()[1] is None
    assert layer.rounded().bias is None
    assert {name for name, _ in layer.named_parameters()} == {"latent", "log_scale"}
