"""Quantizers: exact storage, right gradients, bits that the task moves."""

from __future__ import annotations

import math

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.grids import mse_clipping
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.roles import BitPlan

CHOICES = tuple(range(9))
QUANTIZERS = [
    Uniform("absmax"), Uniform("mse"), Uniform("learned"),
    CodebookEma(), CodebookEma(refine=0),
    *(Baq(gradient, scale) for gradient in ("fractional", "step") for scale in ("absmax", "quantile", "mse")),
]  # fmt: skip


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)


@settings(max_examples=150, deadline=None)
@given(
    quantizer=st.sampled_from(QUANTIZERS), widths=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    columns=st.integers(1, 40), seed=st.integers(0, 999), tensor=st.booleans(), zeros=st.booleans(),
)  # fmt: skip
def test_decoding_the_code_gives_the_forward_bit_for_bit(quantizer, widths, columns, seed, tensor, zeros):
    weight = weights(len(widths), columns, seed)
    if zeros:
        weight[0] = 0
        weight[:, 0] = 0
    bits = torch.tensor(widths[:1] if tensor else widths)
    built = quantizer.build(weight, bits, CHOICES)
    for projected in (False, True):
        if projected:
            built.freeze(bits)
        built.eval()
        stored = built.encode(weight)
        assert torch.equal(stored.decode(), built(weight))
        assert torch.equal(stored.bits, bits.expand(len(widths)))
        half = 2 ** (stored.bits - 1).clamp_min(0)
        largest = torch.where(stored.bits >= 2, half - 1, (stored.bits == 1).long())
        lowest = -half if stored.codebook is not None else -largest  # a codebook uses all 2^b codes
        lowest = torch.where(stored.bits >= 2, lowest, -largest)
        assert (stored.codes <= largest[:, None]).all()
        assert (stored.codes >= lowest[:, None]).all()
        assert (stored.codes[stored.bits == 1] != 0).all()
        assert torch.isfinite(built(weight)).all()


def test_settled_training_mode_is_exact_as_well():
    weight = weights(9, 30, 1)
    built = Baq().build(weight, torch.arange(9), CHOICES).train()
    built.freeze(torch.arange(9))
    assert torch.equal(built.encode(weight).decode(), built(weight))


def test_uniform_by_hand():
    weight = torch.tensor([[1.0, -0.6, 0.2, 0.05]])
    build = lambda bits: Uniform("absmax").build(weight, torch.tensor([bits]), CHOICES)(weight)[0].tolist()
    assert build(0) == [0, 0, 0, 0]
    assert build(1) == pytest.approx([0.4625, -0.4625, 0.4625, 0.4625])  # sign(w) * mean|w|
    assert build(2) == [1, -1, 0, 0]
    assert build(3) == pytest.approx([1, -2 / 3, 1 / 3, 0])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mse_scale_is_at_least_as_close_as_absmax_and_near_the_best_scale(bits):
    weight = weights(6, 500, 2)
    widths = torch.full((6,), bits)
    error = {
        scale: (Uniform(scale).build(weight, widths, CHOICES)(weight) - weight).square().sum(1)
        for scale in ("absmax", "mse")
    }
    assert (error["mse"] <= error["absmax"] * (1 + 1e-6)).all()
    top = 2 ** (bits - 1) - 1
    best = torch.full((6,), math.inf)
    for ratio in torch.linspace(0.1, 1.0, 400):
        scale = weight.abs().amax(1, keepdim=True) * ratio / top
        best = torch.minimum(best, ((weight / scale).round().clamp(-top, top) * scale - weight).square().sum(1))
    assert (error["mse"] <= best * (1.03 if bits < 8 else 1.12)).all()  # wide codes are searched more coarsely
    assert (mse_clipping(weight, widths) <= 1).all()


def test_the_straight_through_gradient_is_the_identity():
    weight = weights(4, 10, 3).requires_grad_(True)
    target = torch.randn(4, 10)
    (Uniform("mse").build(weight, torch.full((4,), 3), CHOICES)(weight) * target).sum().backward()
    torch.testing.assert_close(weight.grad, target)


def test_the_learned_scale_follows_lsq_and_lowers_the_error():
    weight = weights(8, 200, 4)
    built = Uniform("learned").build(weight, torch.full((8,), 3), CHOICES)
    with torch.no_grad():
        built.log_scale += 0.7  # start twice too large
    optimizer = torch.optim.Adam(built.parameters(), lr=0.02)
    first = (built(weight) - weight).square().sum()
    for _ in range(120):
        optimizer.zero_grad()
        (built(weight) - weight).square().sum().backward()
        optimizer.step()
    best = (Uniform("mse").build(weight, torch.full((8,), 3), CHOICES)(weight) - weight).square().sum()
    last = (built(weight) - weight).square().sum()
    assert last.item() <= best.item() * 1.02
    assert first.item() > 1.5 * best.item()


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


def attached(model: nn.Module, quantizer: object, bits: int):
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.full((l.units,), bits) for l in layers}, {l.name: l.unit_size for l in layers})
    return attach(layers, quantizer, plan, BitChoices(CHOICES), Budget(float(bits)))


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


@settings(max_examples=40, deadline=None)
@given(average=st.floats(0.3, 8), seed=st.integers(0, 99), quantizer=st.sampled_from([Baq(), Uniform()]))
def test_settling_never_exceeds_the_budget(average, seed, quantizer):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 4))
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.randint(9, (l.units,)) for l in layers}, {l.name: l.unit_size for l in layers})
    attachment = attach(layers, quantizer, plan, BitChoices(CHOICES), Budget(average))
    projected = attachment.project_to_budget()
    assert projected.average <= average * (1 + 1e-9)
    again = attachment.project_to_budget()
    assert all(torch.equal(again.bits[name], bits) for name, bits in projected.bits.items())
    assert attachment.average() == pytest.approx(projected.average)


def test_a_pinned_layer_keeps_its_bits_when_bits_settle():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    layers = find_layers(model, "channel")
    plan = BitPlan({"0": torch.full((8,), 8), "1": torch.full((8,), 6)}, {"0": 8, "1": 8})
    projected = attach(layers, Baq(), plan, BitChoices((2, 3, 4), {"0": 8}), Budget(5.0)).project_to_budget()
    assert projected.bits["0"].tolist() == [8] * 8
    assert projected.average <= 5.0


def test_taking_the_quantizers_off_leaves_a_plain_module(strange):
    attachment = attached(strange, Uniform(), 4)
    images = torch.randn(2, 3, 8, 8)
    strange.eval()
    before = strange(images)
    attachment.detach()
    assert torch.equal(strange(images), before)
    assert not any("parametrizations" in name for name, _ in strange.named_modules())


def test_the_budget_of_learned_bits_is_what_pinned_layers_leave():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    layers = find_layers(model, "channel")
    plan = BitPlan({"0": torch.full((8,), 8), "1": torch.full((8,), 2)}, {"0": 8, "1": 8})
    state = attach(layers, Baq(), plan, BitChoices((1, 2, 3, 4), {"0": 8}), Budget(5.0)).bit_state()
    assert state.budget == pytest.approx(2.0)  # (5 * 128 - 8 * 64) / 64
    assert len(state.bits) == 8


def test_projection_spends_what_learned_bits_leave_of_the_budget():
    model = nn.Sequential(nn.Linear(16, 64))
    layers = find_layers(model, "channel")
    plan = BitPlan({"0": torch.arange(64) % 4 + 1}, {"0": 16})
    attachment = attach(layers, Baq(), plan, BitChoices(CHOICES), Budget(4.2))
    assert attachment.average() == pytest.approx(2.5, abs=0.1)
    with torch.no_grad():  # bits that all lie just below the half: rounding alone would throw them away
        attachment.quantizers[0].bit_logits.copy_(torch.atanh((torch.arange(64) % 4 + 1.4) / 8))
    projected = attachment.project_to_budget()
    assert 4.1 < projected.average <= 4.2
    assert attachment.project_to_budget().bits["0"].tolist() == projected.bits["0"].tolist()
