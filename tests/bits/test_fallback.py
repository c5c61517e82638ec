"""Uniform bits of the same budget, and the comparison of a plan with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fairquant_paper.uniform import Uniform
from helpers.importance import data

from fairquant.bits import find_layers
from fairquant.bits.fallback import Comparison, Deviation, compare, deviation, uniform_bits
from fairquant.bits.probe import PlanProbe
from fairquant.bits.problem import weight_errors
from fairquant.errors import Infeasible
from fairquant.roles import Allocation, Batch
from fairquant.testing.cases import problem as made_up

CHOICES = (0, 1, 2, 3, 4, 8)


def problem_of(average: float, seed: int = 0, **changes):
    return replace(made_up(seed, 24, CHOICES, average), **changes)


def test_a_whole_number_of_bits_is_the_same_everywhere():
    problem = problem_of(3.0)
    assert set(uniform_bits(problem).tolist()) == {3}


@pytest.mark.parametrize("seed", range(8))
def test_what_is_left_of_the_budget_goes_to_the_largest_errors(seed):
    problem = problem_of(2.5, seed)
    bits = uniform_bits(problem)
    assert problem.fits(bits)
    assert set(bits.tolist()) == {2, 3}
    left = problem.capacity - float(problem.cost(bits).sum())
    assert left < int(problem.sizes[bits == 2].max())
    gain = (problem.errors[:, 2] - problem.errors[:, 3]) / problem.sizes
    taken, not_taken = gain[bits == 3], gain[(bits == 2) & (problem.sizes <= problem.sizes[bits == 3].min())]
    assert not len(not_taken) or float(taken.min()) >= float(not_taken.max()) * 0.99


def test_pinned_layers_keep_their_bits_and_a_budget_below_all_choices_is_infeasible():
    problem = problem_of(3.0)
    allowed = problem.allowed.clone()
    allowed[0] = False
    allowed[0, problem.choices.index(8)] = True
    bits = uniform_bits(replace(problem, allowed=allowed, average_bits=3.8))
    assert bits[0] == 8
    assert set(bits[1:].tolist()) <= {2, 3, 4}
    narrow = {"choices": (4, 8), "errors": problem.errors[:, 4:], "allowed": problem.allowed[:, 4:]}
    with pytest.raises(Infeasible):
        uniform_bits(replace(problem, **narrow))


def probe_of(model, batch, **more) -> PlanProbe:
    layers = find_layers(model, "channel")
    stream = lambda: [Batch(batch.images.float(), batch.labels, batch.groups)]
    return PlanProbe(model=model, layers=layers, quantizer=Uniform(), batches=stream, **more)


def test_a_deviation_is_that_of_the_group_where_it_is_largest(strange):
    batch = data(10, groups=2)
    probe = probe_of(strange.eval(), batch)
    units = sum(layer.units for layer in probe.layers)
    full, low = probe.outputs(torch.full((units,), -1)), probe.outputs(torch.full((units,), 2))
    known = {layer.name: torch.stack(list(weight_errors(layer, Uniform(), (2,)))) for layer in probe.layers}
    told = probe_of(strange, batch, errors=lambda name, width: known[name][0]).outputs(torch.full((units,), 2))
    assert torch.allclose(told.logits, low.logits, atol=1e-5)
    found, changed, divergence = deviation(full, low), [], []
    for group in (0, 1):
        own = full.groups == group
        before, after = full.logits[own].double().softmax(1), low.logits[own].double().softmax(1)
        changed.append(float((before.argmax(1) != after.argmax(1)).double().mean()))
        divergence.append(float((before * (before / after).log()).sum(1).mean()))
    assert found.changed == pytest.approx(max(changed))
    assert found.divergence == pytest.approx(max(divergence), rel=1e-3)
    assert deviation(full, full) == Deviation(changed=0.0, divergence=0.0)


def test_outputs_that_are_not_finite_are_never_better(strange):
    probe = probe_of(strange.eval(), data(4, groups=1))
    units = sum(layer.units for layer in probe.layers)
    full = probe.outputs(torch.full((units,), -1))
    broken = replace(full, logits=full.logits * torch.nan)
    assert deviation(full, broken) == Deviation(changed=torch.inf, divergence=torch.inf)


def test_the_plan_that_changes_fewer_answers_is_taken_and_the_divergence_decides_between_equals():
    few, more = Deviation(changed=0.1, divergence=0.9), Deviation(changed=0.2, divergence=0.1)
    nearer = Deviation(changed=0.2, divergence=0.05)
    for plan, uniform, fallback in (
        (few, more, False),
        (more, few, True),
        (more, nearer, True),
        (nearer, more, False),
        (few, few, False),
    ):
        found = Comparison(plan=plan, uniform=uniform, images=8)
        assert found.fallback == fallback
        assert ("Uniform bits are taken" in str(found)) == fallback


def test_a_plan_and_uniform_bits_are_measured_on_the_same_images(strange):
    probe = probe_of(strange.eval(), data(10, groups=2))
    units = sum(layer.units for layer in probe.layers)
    two, eight = (Allocation(torch.full((units,), bits)) for bits in (2, 8))
    found = compare(two, eight, probe)
    assert found.fallback
    assert found.images == 10
    assert found.uniform == compare(eight, two, probe).plan
