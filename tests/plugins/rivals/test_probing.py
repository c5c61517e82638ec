"""FMPQ and IMPQ, which measure the losses of plans."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from fairquant_rivals.probing import Fmpq, Impq, quadratic, solve_quadratic
from helpers.allocation import layered_allocation, probed_allocation

from fairquant.errors import UserError


def test_fmpq_takes_the_strictest_threshold_that_fits():
    problem = probed_allocation([5.0, 0.001, 0.001, 0.001, 0.001, 0.001], average=3.0)
    bits = Fmpq().allocate(problem).bits
    first, others = bits[problem.layers == 0][1:].float().mean(), bits[problem.layers != 0].float().mean()
    assert first > others
    exhaustive = []
    for widths in itertools.product(
        problem.choices, repeat=2
    ):  # no single threshold does better: layers 1..5 are equal
        plan = torch.where(problem.layers == 0, widths[0], widths[1])
        plan[0] = 8
        if float((plan * problem.sizes).sum()) <= problem.capacity:
            exhaustive.append(float(problem.probe(plan)[0]))
    assert float(problem.probe(bits)[0]) <= np.quantile(exhaustive, 0.2)


@pytest.mark.parametrize("seed", range(6))
def test_the_quadratic_programme_equals_exhaustive_search(seed):
    draw = np.random.default_rng(seed)
    a, k = quadratic(draw.normal(size=(12, 8)) + np.arange(8) / 4, 0.5)
    cost = draw.uniform(1, 5, 8)
    spare = cost.sum() * draw.uniform(0.2, 0.8)
    solution = solve_quadratic(a, k, cost, spare).astype(float)
    plans = (np.array(q, float) for q in itertools.product([0, 1], repeat=8))
    best = min(a @ q + q @ k @ q for q in plans if cost @ (1 - q) <= spare + 1e-9)
    assert cost @ (1 - solution) <= spare + 1e-6
    assert a @ solution + solution @ k @ solution == pytest.approx(best, abs=1e-6)


def test_impq_keeps_the_layer_that_costs_most_when_it_is_lowered():
    problem = probed_allocation([50.0, 0.1, 0.1, 0.1, 0.1, 0.1], average=3.0)
    bits = Impq(permutations=4).allocate(problem).bits
    assert set(bits[problem.layers == 0][1:].tolist()) == {4}


def test_allocators_that_measure_say_so_where_there_is_nothing_to_measure_on():
    with pytest.raises(UserError, match="allocator 'impq' has to measure losses"):
        Impq().allocate(layered_allocation())
