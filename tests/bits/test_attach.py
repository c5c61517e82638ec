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


def test_projecting_again_changes_nothing():
    attachment = learning(model(), 3.0)
    first = attachment.project_to_budget()
    second = attachment.project_to_budget()
    assert all(torch.equal(first.bits[name], second.bits[name]) for name in first.bits)


def test_pinned_layers_keep_their_bits_and_the_others_learn_within_what_is_left():
    attachment = learning(model(), 4.0, pinned={"0": 8})
    state = attachment.bit_state()
    assert len(state.bits) == 10 + 3
    weights, pinned = 120 + 60 + 30, 120
    assert state.budget == pytest.approx((4.0 * weights - 8 * pinned) / (weights - pinned))
    attachment = learning(model(), 6.0, pinned={"0": 8})
    plan = attachment.project_to_budget()
    assert plan.bits["0"].tolist() == [8] * 6
    assert plan.average <= 6.0


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
