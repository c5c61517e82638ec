"""Knapsack and minimax as allocators."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fairquant_fair.allocators import Knapsack, Minimax, non_dominated
from helpers.allocation import random_allocation


def test_knapsack_gives_bits_to_what_matters():
    problem = random_allocation(200, (0, 2, 4, 8), 3.0, groups=1)
    bits = Knapsack().allocate(problem).bits.double()
    damage = problem.scores * problem.errors[:, 0] / problem.sizes
    assert bits[damage > damage.median()].mean() > bits[damage <= damage.median()].mean() + 1


def test_minimax_certifies_the_worst_group_and_knapsack_the_reduced_importance():
    problem = random_allocation(60, (0, 2, 4, 8), 3.0, groups=3)
    rows = torch.arange(60)
    for allocator, value in (
        (Knapsack(), lambda k: problem.weighted_errors()[rows, k].sum()),
        (Minimax(), lambda k: problem.group_errors()[:, rows, k].sum(1).max()),
    ):
        allocation = allocator.allocate(problem)
        column = torch.searchsorted(torch.tensor(problem.choices), allocation.bits)
        assert allocation.value == pytest.approx(float(value(column)))
        assert allocation.lower_bound <= allocation.value * (1 + 1e-9)
        assert allocation.gap < 0.01


def test_a_choice_is_left_out_where_a_wider_one_costs_no_more_and_errs_no_more():
    problem = random_allocation(2, (2, 4, 8), 8.0)
    assert non_dominated(problem).allowed.all()  # more bits cost more
    costs = torch.tensor([[1.0, 1.0, 2.0], [3.0, 2.0, 2.0]], dtype=torch.double)
    timed = dataclasses.replace(
        problem, unit_costs=costs, limit=4.0, errors=torch.tensor([[4.0, 1.0, 0.5]] * 2, dtype=torch.double)
    )
    assert non_dominated(timed).allowed.tolist() == [[False, True, True], [False, False, True]]
    better = dataclasses.replace(timed, errors=torch.tensor([[1.0, 4.0, 0.5]] * 2, dtype=torch.double))
    assert non_dominated(better).allowed[0].tolist() == [True, True, True]
