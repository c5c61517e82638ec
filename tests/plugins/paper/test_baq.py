"""BAQ: gradients of bits and dead zones."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.baq import Baq
from torch import nn
from torch.nn import functional as F

from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.roles import BitPlan

CHOICES = tuple(range(9))


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)


def attached(model: nn.Module, quantizer: object, bits: int):
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.full((l.units,), bits) for l in layers}, {l.name: l.unit_size for l in layers})
    return attach(layers, quantizer, plan, BitChoices(CHOICES), Budget(float(bits)))


def test_the_fractional_bit_gradient_is_the_finite_difference_between_widths():
    weight = weights(5, 60, 5)
    slope = torch.randn(5, 60)
    widths = torch.tensor([0, 1, 2, 4, 7])
    built = Baq("fractional", "mse").build(weight, widths, CHOICES).train()
    logits = built.bit_logits
    with torch.no_grad():  # put each unit midway between two widths
        logits.copy_(torch.atanh((widths + 0.5) / 8))
    (built(weight) * slope).sum().backward()
    per_bit = logits.grad / (8 * (1 - torch.tanh(logits).square()))
    below, above = (Baq("fractional", "mse").build(weight, w, CHOICES).eval()(weight) for w in (widths, widths + 1))
    torch.testing.assert_close(per_bit.detach(), ((above - below) * slope).sum(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(built(weight).detach(), (below + above) / 2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("gradient", ["fractional", "step"])
@pytest.mark.parametrize("scale", ["absmax", "mse"])
def test_the_task_loss_reaches_bits_and_dead_zone(gradient, scale):
    weight = weights(6, 50, 6)
    built = Baq(gradient, scale).build(weight, torch.full((6,), 3), CHOICES).train()
    (built(weight) - weight).square().sum().backward()
    assert (built.bit_logits.grad != 0).all()
    assert (built.bit_logits.grad < 0).float().mean() > 0.8  # more bits, less error
    assert built.dead_logits.grad is not None
    assert (built.dead_logits.grad != 0).any()


def test_below_two_bits_the_step_gradient_is_the_finite_difference_too():
    """A pruned unit has no step, and a sign none that bits would change: yet both must feel what a bit is worth to them,
    or learned bits could only fall there."""
    weight, slope, widths = weights(4, 60, 5), torch.randn(4, 60), torch.tensor([0, 0, 1, 1])
    for place in (0.2, 0.8):
        built = Baq("step").build(weight, widths, CHOICES).train()
        logits = built.bit_logits
        with torch.no_grad():
            logits.copy_(torch.atanh((widths + place) / 8))
        (built(weight) * slope).sum().backward()
        per_bit = logits.grad / (8 * (1 - torch.tanh(logits).square()))
        below, above = (Baq().build(weight, w, CHOICES).eval()(weight) for w in (widths, widths + 1))
        torch.testing.assert_close(per_bit.detach(), ((above - below) * slope).sum(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gradient", ["fractional", "step"])
def test_a_pruned_unit_that_matters_gets_bits_back(gradient):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 4, bias=False))
    teacher = model[0].weight.detach().clone()
    model[0].weight.requires_grad_(False)
    attachment = attached(model, Baq(gradient), 0)
    optimizer = torch.optim.Adam([attachment.quantizers[0].bit_logits], lr=0.02)
    model.train()
    for step in range(60):
        inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.mse_loss(model(inputs), inputs @ teacher.T).backward()
        optimizer.step()
    assert attachment.quantizers[0].bits().min() > 1.5


@pytest.mark.parametrize("gradient", ["fractional", "step"])
def test_the_task_loss_alone_moves_bits_and_a_unit_that_matters_ends_higher(gradient):
    """One layer, two halves: the output depends on the first four units a hundred times more than on the others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8, bias=False))
    teacher = model[0].weight.detach().clone()
    matter = torch.tensor([10.0] * 4 + [0.1] * 4)
    model[0].weight.requires_grad_(False)  # only bits may answer
    attachment = attached(model, Baq(gradient), 3)
    optimizer = torch.optim.SGD([attachment.quantizers[0].bit_logits], lr=0.3)
    model.train()
    start = attachment.quantizers[0].bits().detach().clone()
    for step in range(200):
        inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(step))
        loss = F.mse_loss(model(inputs) * matter, inputs @ teacher.T * matter)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = attachment.quantizers[0].bits().detach()
    assert (moved != start).any()
    assert moved[:4].min() > moved[4:].max() + 0.5
    plan = attachment.project_to_budget()
    assert plan.average <= 3.0
    assert plan.bits["0"][:4].double().mean() > plan.bits["0"][4:].double().mean() + 1


@pytest.mark.parametrize("scale", ["mse", "absmax", "quantile"])
def test_a_dead_zone_that_rows_share_is_taken_over_from_the_rows_that_have_one(scale):
    """Rows of zeros have none; a tensor has one for all rows."""
    torch.manual_seed(0)
    weight = torch.randn(16, 20)
    weight[3:11] = 0
    bits = torch.tensor([3])
    first = Baq("step", scale).build(weight, bits, (2, 3, 4))
    first.freeze(bits)
    stored = first.eval().encode(weight)
    built = Baq("step", scale).build(stored.decode(), bits, (2, 3, 4))
    built.start_from(stored)
    built.freeze(bits)
    assert torch.allclose(built.eval()(stored.decode()), stored.decode(), rtol=1e-4, atol=1e-6)
