"""The knapsack and the minimax: never over the budget, and optimal within the certificate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.bits.knapsack import relax_and_fill, solve_knapsack, solve_milp
from fairquant.bits.minimax import solve_minimax
from fairquant.errors import Infeasible
from fairquant.roles import BudgetConstraint


def random_problem(units: int, choices: tuple[int, ...], seed: int, groups: int = 1, equal_sizes: bool = False):
    """Errors fall by about 4 per bit, with noise, so that some are not convex."""
    draw = np.random.default_rng(seed)
    sizes = np.full(units, 9) if equal_sizes else draw.integers(1, 60, units)
    scale = draw.lognormal(0, 2, (groups, units, 1))
    shape = 4.0 ** -np.array(choices) * draw.uniform(0.3, 3, (1, units, len(choices)))
    errors = scale * -np.sort(-shape, axis=2)
    return errors, sizes[:, None] * np.array(choices, float)


def exhaustive(errors, costs, allowed, capacity):
    """The best value over all plans: the worst group's total. errors [G, U, K]."""
    units, best = costs.shape[0], np.inf
    for plan in itertools.product(range(costs.shape[1]), repeat=units):
        rows = np.arange(units)
        if allowed[rows, plan].all() and costs[rows, plan].sum() <= capacity:
            best = min(best, errors[:, rows, plan].sum(1).max())
    return best


@pytest.mark.parametrize("seed", range(12))
def test_knapsack_equals_exhaustive_search(seed):
    errors, costs = random_problem(6, (0, 2, 3, 8), seed)
    allowed = np.random.default_rng(seed).random(costs.shape) < 0.8
    allowed[:, 0] = True
    capacity = costs.max(1).sum() * 0.45
    found = solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity))
    best = exhaustive(errors, costs, allowed, capacity)
    assert found.lower_bound <= best * (1 + 1e-9)
    assert found.value == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("groups", [2, 3])
def test_minimax_equals_exhaustive_search(seed, groups):
    errors, costs = random_problem(6, (0, 2, 4, 8), seed, groups)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    found = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    best = exhaustive(errors, costs, allowed, capacity)
    assert found.lower_bound <= best * (1 + 1e-9)
    assert found.value == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("units", [100, 1000])
def test_knapsack_agrees_with_integer_programming_within_its_certificate(units):
    errors, costs = random_problem(units, (0, 1, 2, 3, 4, 6, 8), seed=units)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    found = solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity))
    choice, bound = solve_milp(errors[0].ravel(), BudgetConstraint(costs, allowed, capacity), near=found.value)
    reference = errors[0][np.arange(units), choice].sum()
    assert found.lower_bound <= reference * (1 + 1e-9)
    assert bound <= found.value * (1 + 1e-6)
    assert found.value <= reference * (1 + max(found.gap, 1e-4))
    assert found.gap < 0.01


@pytest.mark.parametrize("groups", [2, 6])
def test_minimax_agrees_with_integer_programming_within_its_certificate(groups):
    errors, costs = random_problem(200, (0, 2, 4, 8), seed=groups, groups=groups)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    found = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    choice, bound = solve_milp(np.zeros(costs.size), BudgetConstraint(costs, allowed, capacity), errors, near=found.value)
    reference = errors[:, np.arange(200), choice].sum(1).max()
    assert found.lower_bound <= reference * (1 + 1e-9)
    assert bound <= found.value * (1 + 1e-6)
    assert found.value <= reference * (1 + max(found.gap, 1e-4))


@settings(max_examples=120, deadline=None)
@given(
    units=st.integers(1, 40), seed=st.integers(0, 10_000), fraction=st.floats(0.0, 1.2), groups=st.integers(1, 4),
    choices=st.sets(st.integers(0, 8), min_size=1, max_size=9), pinned=st.integers(0, 3),
)  # fmt: skip
def test_plan_never_exceeds_the_budget_and_uses_allowed_bits(units, seed, fraction, groups, choices, pinned):
    widths = tuple(sorted(choices))
    errors, costs = random_problem(units, widths, seed, groups)
    draw = np.random.default_rng(seed)
    allowed = np.ones(costs.shape, bool)
    for unit in draw.choice(units, min(pinned, units), replace=False):
        allowed[unit] = np.arange(len(widths)) == draw.integers(len(widths))
    capacity = costs.max(1).sum() * fraction
    least = np.where(allowed, costs, np.inf).min(1).sum()
    if least > capacity:
        with pytest.raises(Infeasible):
            solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
        return
    for solve in (
        lambda: solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity)),
        lambda: solve_minimax(errors, BudgetConstraint(costs, allowed, capacity)),
    ):
        found = solve()
        rows = np.arange(units)
        assert costs[rows, found.choice].sum() <= capacity * (1 + 1e-9)
        assert allowed[rows, found.choice].all()
        assert found.lower_bound <= found.value * (1 + 1e-9) + 1e-12


def test_a_larger_budget_is_never_worse():
    errors, costs = random_problem(300, (0, 2, 4, 8), seed=1)
    allowed = np.ones(costs.shape, bool)
    bounds = [
        relax_and_fill(errors[0], BudgetConstraint(costs, allowed, costs.max(1).sum() * fraction)).lower_bound for fraction in (0.2, 0.4, 0.8)
    ]
    assert bounds[0] > bounds[1] > bounds[2]


def test_minimax_serves_the_worst_group_better_than_the_average_does():
    errors, costs = random_problem(300, (0, 2, 4, 8), seed=4, groups=2)
    errors[1] *= 3
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    rows = np.arange(300)
    average = relax_and_fill(errors.mean(0), BudgetConstraint(costs, allowed, capacity)).choice
    found = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    assert found.value < errors[:, rows, average].sum(1).max()
