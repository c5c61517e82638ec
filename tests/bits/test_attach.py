"""Quantizers on a model: bits followed, projected onto the budget, taken off again."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import PluginFailed
from fairquant.roles import BitPlan

CHOICES = (0, 2, 4, 8)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))


def learning(network: nn.Module, average: float = 4.0, pinned: dict[str, int] | None = None):
    """Learned bits that start at 4, but where a layer is pinned."""
    layers, pinned = find_layers(network, "channel"), pinned or {}
    bits = torch.cat([torch.full((layer.units,), pinned.get(layer.name, 4)) for layer in layers])
    return attach(layers, Baq(), plan_of(layers, bits), BitChoices(CHOICES, pinned), Budget(average))


@settings(max_examples=40, deadline=None)
@given(average=st.floats(0.5, 8), seed=st.integers(0, 999), spread=st.floats(0, 4))
def test_projected_bits_never_exceed_the_budget_and_are_choices(average, seed, spread):
    attachment = learning(model(), average)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for quantizer in attachment.quantizers:
            quantizer.bit_logits.add_(spread * torch.randn(quantizer.bit_logits.shape, generator=draw))
    plan = attachment.project_to_budget()
    assert plan.average <= average
    assert all(set(bits.tolist()) <= set(CHOICES) for bits in plan.bits.values())
    assert not attachment.learns_bits
    assert attachment.average() == pytest.approx(plan.average)


@settings(max_examples=40, deadline=None)
@given(average=st.floats(0.5, 8), seed=st.integers(0, 999), spread=st.floats(0, 4))
def test_learned_bits_are_held_to_the_budget_all_alike_and_no_further_than_needed(average, seed, spread):
    attachment = learning(model(), average, {"2": 2})
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for quantizer in attachment.quantizers[:1] + attachment.quantizers[2:]:
            quantizer.bit_logits.add_(spread * torch.randn(quantizer.bit_logits.shape, generator=draw))

    def spent(lower: float = 0.0) -> float:
        before = [quantizer.bit_logits.clone() for quantizer in attachment.quantizers]
        for quantizer in attachment.quantizers:
            quantizer.lower_bits(lower)
        rounded = [
            q.bits().round().sum() * layer.unit_size
            for q, layer in zip(attachment.quantizers, attachment.layers, strict=True)
        ]
        for quantizer, logits in zip(attachment.quantizers, before, strict=True):
            quantizer.bit_logits.data.copy_(logits)
        return float(sum(rounded).detach()) / 210

    start = [quantizer.bit_logits.abs().clone() for quantizer in attachment.quantizers]
    within = spent() <= average
    if float(attachment.quantizers[1].bits().sum()) * 6 / 210 > average:
        return  # the pinned layer alone costs more
    attachment.hold_budget()
    assert spent() <= average + 1e-9
    shifts = torch.cat(
        [before - q.bit_logits.abs() for before, q in zip(start, attachment.quantizers, strict=True) if q.learns_bits]
    )
    assert float(shifts.max()) == 0 if within else float(shifts.max()) > 0
    lowered = shifts[torch.cat([q.bit_logits > 0.0101 for q in attachment.quantizers if q.learns_bits])]
    if len(lowered):
        assert float(lowered.max() - lowered.min()) < 1e-5  # all alike, but at the lower end
        assert within or spent(-0.02 * float(lowered.max()) - 1e-4) > average
    before = [quantizer.bit_logits.clone() for quantizer in attachment.quantizers]
    attachment.hold_budget()
    assert all(torch.equal(a, q.bit_logits) for a, q in zip(before, attachment.quantizers, strict=True))


def test_a_quantizer_whose_bits_do_not_come_down_is_named():
    class Stuck(Baq):
        def build(self, weight, bits, choices):
            built = super().build(weight, bits, choices)
            built.lower_bits = lambda by: None
            return built

    network = model()
    layers = find_layers(network, "channel")
    attachment = attach(layers, Stuck(), plan_of(layers, torch.full((19,), 4)), BitChoices(CHOICES), Budget(2.0))
    with pytest.raises(PluginFailed, match=r"lower_bits\(\) does not bring the bits down to the budget"):
        attachment.hold_budget()


def test_bits_that_are_not_learned_have_no_state():
    layers = find_layers(model(), "channel")
    plan = plan_of(layers, torch.full((19,), 4))
    attachment = attach(layers, Uniform(), plan, BitChoices(CHOICES), Budget(4.0))
    assert attachment.bit_state() is None
    assert not attachment.learns_bits
    assert attachment.average() == 4.0


def test_what_is_taken_off_leaves_the_quantized_weights_and_nothing_else():
    network = model()
    names = set(network.state_dict())
    attachment = learning(network)
    attachment.project_to_budget()
    stored = attachment.encode()
    attachment.detach()
    assert set(network.state_dict()) == names
    for layer in attachment.layers:
        assert torch.equal(layer.weight, stored[layer.name].decode())


def test_modules_that_share_a_weight_share_its_quantizer_and_its_values():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    layers = find_layers(network, "channel")
    attachment = attach(layers, Uniform(), plan_of(layers, torch.full((4,), 2)), BitChoices(CHOICES), Budget(4.0))
    assert len(attachment.quantizers) == 1
    assert torch.equal(network[0].weight, network[1].weight)
    attachment.detach()
    assert network[0].weight is network[1].weight
    assert len(network[0].weight.unique()) <= 3 * 4


def attached(model: nn.Module, quantizer: object, bits: int):
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.full((l.units,), bits) for l in layers}, {l.name: l.unit_size for l in layers})
    return attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(float(bits)))


@settings(max_examples=40, deadline=None)
@given(average=st.floats(0.3, 8), seed=st.integers(0, 99), quantizer=st.sampled_from([Baq(), Uniform()]))
def test_projection_never_exceeds_the_budget_and_is_idempotent(average, seed, quantizer):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 4))
    layers = find_layers(model, "channel")
    plan = BitPlan({l.name: torch.randint(9, (l.units,)) for l in layers}, {l.name: l.unit_size for l in layers})
    attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(average))
    projected = attachment.project_to_budget()
    assert projected.average <= average * (1 + 1e-9)
    again = attachment.project_to_budget()
    assert all(torch.equal(again.bits[name], bits) for name, bits in projected.bits.items())
    assert attachment.average() == pytest.approx(projected.average)


def test_a_pinned_layer_keeps_its_bits_when_the_others_are_projected():
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
    attachment = attach(layers, Baq(), plan, BitChoices(tuple(range(9))), Budget(4.2))
    assert attachment.average() == pytest.approx(2.5, abs=0.1)
    with torch.no_grad():  # bits that all lie just below the half: rounding alone would throw them away
        attachment.quantizers[0].bit_logits.copy_(torch.atanh((torch.arange(64) % 4 + 1.4) / 8))
    projected = attachment.project_to_budget()
    assert 4.1 < projected.average <= 4.2
    assert attachment.project_to_budget().bits["0"].tolist() == projected.bits["0"].tolist()


def test_what_is_stored_of_a_layer_is_what_it_computes_with():
    network = model()
    attachment = learning(network)
    attachment.project_to_budget()
    last = attachment.quantizers[-1]
    last.encode = lambda weight: type(last).encode(last, 2 * weight)
    with pytest.raises(
        PluginFailed, match="quantizer BaqWeight.*: what encode.. stores of layer '4' is not what forward"
    ):
        attachment.encode()
