"""The minimax: never over the budget, optimal within its certificate, fairer than the average."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.allocation import exhaustive, random_problem

from fairquant.bits.knapsack import relax_and_fill, solve_milp
from fairquant.bits.minimax import solve_minimax
from fairquant.roles import BudgetConstraint


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("groups", [2, 3])
def test_minimax_equals_exhaustive_search(seed, groups):
    errors, costs = random_problem(6, (0, 2, 4, 8), seed, groups)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    solution = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    best = exhaustive(errors, costs, allowed, capacity)
    assert solution.lower_bound <= best * (1 + 1e-9)
    assert solution.value == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("groups", [2, 6])
def test_minimax_agrees_with_integer_programming_within_its_certificate(groups):
    errors, costs = random_problem(200, (0, 2, 4, 8), seed=groups, groups=groups)
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    solution = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    choice, bound = solve_milp(
        np.zeros(costs.size), BudgetConstraint(costs, allowed, capacity), errors, near=solution.value
    )
    reference = errors[:, np.arange(200), choice].sum(1).max()
    assert solution.lower_bound <= reference * (1 + 1e-9)
    assert bound <= solution.value * (1 + 1e-6)
    assert solution.value <= reference * (1 + max(solution.gap, 1e-4))


def test_minimax_serves_the_worst_group_better_than_the_average_does():
    errors, costs = random_problem(300, (0, 2, 4, 8), seed=4, groups=2)
    errors[1] *= 3
    allowed = np.ones(costs.shape, bool)
    capacity = costs.max(1).sum() * 0.4
    rows = np.arange(300)
    average = relax_and_fill(errors.mean(0), BudgetConstraint(costs, allowed, capacity)).choice
    solution = solve_minimax(errors, BudgetConstraint(costs, allowed, capacity))
    assert solution.value < errors[:, rows, average].sum(1).max()
