"""The knapsack: never over the budget, and optimal within the certificate."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.allocation import exhaustive, random_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.bits.knapsack import relax_and_fill, solve_knapsack, solve_milp
from fairquant.bits.minimax import solve_minimax
from fairquant.errors import Infeasible
from fairquant.roles import BudgetConstraint


@pytest.mark.parametrize("seed", range(12))
def test_knapsack_equals_exhaustive_search(seed):
    errors, costs = random_problem(6, (0, 2, 3, 8), seed)
    allowed = np.random.default_rng(seed).random(costs.shape) < 0.8
    allowed[:, 0] = True
    capacity = costs.max(1).sum() * 0.45
    solution = solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity))
    best = exhaustive(errors, costs, allowed, capacity)
    assert solution.lower_bound <= best * (1 + 1e-9)
    assert solution.value == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("units", [100, 1000])
def test_knapsack_agrees_with_integer_programming_within_its_certificate(units):
    errors, costs = random_problem(units, (0, 1, 2, 3, 4, 6, 8), seed=units)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    solution = solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity))
    choice, bound = solve_milp(errors[0].ravel(), BudgetConstraint(costs, allowed, capacity), near=solution.value)
    reference = errors[0][np.arange(units), choice].sum()
    assert solution.lower_bound <= reference * (1 + 1e-9)
    assert bound <= solution.value * (1 + 1e-6)
    assert solution.value <= reference * (1 + max(solution.gap, 1e-4))
    assert solution.gap < 0.01


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
        solution = solve()
        rows = np.arange(units)
        assert costs[rows, solution.choice].sum() <= capacity * (1 + 1e-9)
        assert allowed[rows, solution.choice].all()
        assert solution.lower_bound <= solution.value * (1 + 1e-9) + 1e-12


def test_a_larger_budget_is_never_worse():
    errors, costs = random_problem(300, (0, 2, 4, 8), seed=1)
    allowed = np.ones(costs.shape, bool)
    bounds = [
        relax_and_fill(errors[0], BudgetConstraint(costs, allowed, costs.max(1).sum() * fraction)).lower_bound
        for fraction in (0.2, 0.4, 0.8)
    ]
    assert bounds[0] > bounds[1] > bounds[2]
