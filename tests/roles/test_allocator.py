"""Bit plans, the budget of an allocation problem, and the certificate of an allocation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairquant.errors import UserError
from fairquant.roles import Allocation, AllocationProblem, BitPlan
from fairquant.roles.allocator import whole_bits

PLAN = BitPlan({"a": torch.tensor([0, 4, 4]), "b": torch.tensor([2])}, {"a": 10, "b": 50})


def problem(average_bits: float = 3.0, **changes: object) -> AllocationProblem:
    """Three units of 10, 20 and 30 weights at 2, 4 or 8 bits."""
    return AllocationProblem(
        scores=torch.tensor([1.0, 2.0, 3.0]), group_scores=torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]),
        sizes=torch.tensor([10, 20, 30]), errors=torch.tensor([[4.0, 1.0, 0.0]]).repeat(3, 1),
        allowed=torch.ones(3, 3, dtype=torch.bool), choices=(2, 4, 8), average_bits=average_bits,
        group_names=("dark", "light"), **changes,
    )  # fmt: skip


@given(average=st.floats(0.01, 8), weights=st.integers(1, 10**7))
def test_whole_bits_never_exceed_the_average_and_one_more_would(average, weights):
    bits = whole_bits(average, weights)
    assert bits / weights <= average < (bits + 1) / weights


def test_a_plan_counts_weights_not_units():
    assert (PLAN.weights, PLAN.total_bits) == (80, 180)
    assert PLAN.average == 2.25
    assert PLAN.histogram() == {0: 10, 2: 50, 4: 20}


def test_moved_is_the_fraction_of_units_that_differ():
    other = BitPlan({"a": torch.tensor([0, 4, 3]), "b": torch.tensor([2])}, PLAN.unit_sizes)
    assert (PLAN.moved(other), PLAN.moved(PLAN)) == (0.25, 0.0)


def test_a_plan_fits_up_to_its_capacity_and_not_beyond():
    assert problem().capacity == 180
    assert problem().fits(torch.tensor([4, 4, 2]))  # 40 + 80 + 60 bits
    assert not problem().fits(torch.tensor([8, 4, 2]))


def test_the_cost_of_a_unit_is_its_bits_unless_the_budget_is_of_something_else():
    assert problem().cost(torch.tensor([2, 8, 4])).tolist() == [20, 160, 120]
    milliseconds = torch.tensor([[0.5, 0.5, 1.0]] * 3, dtype=torch.float64)
    timed = problem(unit_costs=milliseconds, limit=1.5)
    assert timed.cost(torch.tensor([2, 8, 4])).tolist() == [0.5, 1.0, 0.5]
    assert timed.fits(torch.tensor([4, 4, 4]))
    assert not timed.fits(torch.tensor([4, 4, 8]))


def test_the_constraint_of_the_solvers_is_the_problems_budget():
    constraint = problem(2.5).constraint()
    assert constraint.capacity == 150
    assert constraint.costs.tolist() == [[20, 40, 80], [40, 80, 160], [60, 120, 240]]
    assert constraint.allowed.all()


def test_errors_are_weighted_by_importance_unless_they_were_measured():
    assert problem().weighted_errors()[2].tolist() == [12, 3, 0]
    assert problem().group_errors()[1].tolist() == [[0, 0, 0], [4, 1, 0], [8, 2, 0]]
    measured = torch.rand(3, 3), torch.rand(2, 3, 3)
    known = problem(measured_errors=measured[0], measured_group_errors=measured[1])
    assert known.weighted_errors() is measured[0]
    assert known.group_errors() is measured[1]


def test_least_bits_respects_what_is_pinned():
    pinned = replace(problem(), allowed=torch.tensor([[True] * 3, [True] * 3, [False, False, True]]))
    assert problem().least_bits() == 2
    assert pinned.least_bits() == (30 * 2 + 30 * 8) / 60


def test_every_unit_is_a_layer_of_its_own_where_the_problem_does_not_say():
    assert problem().by_layer().tolist() == [0, 1, 2]
    assert problem(layers=torch.tensor([0, 0, 1])).by_layer().tolist() == [0, 0, 1]


def test_an_unknown_group_is_reported_with_the_known_ones():
    assert problem().group("allocator.unprivileged", "light") == 1
    with pytest.raises(UserError, match=r"allocator.unprivileged: no group is called 'drak'. Did you mean 'dark'\?"):
        problem().group("allocator.unprivileged", "drak")


@pytest.mark.parametrize(
    ("value", "bound", "gap"),
    [(2.0, 2.0, 0.0), (1.9, 2.0, 0.0), (2.5, 2.0, 0.25), (0.0, 0.0, 0.0), (1.0, 0.0, float("inf")), (1.0, None, None)],
)
def test_the_gap_is_relative_to_the_lower_bound(value, bound, gap):
    assert Allocation(torch.zeros(1), value, bound).gap == gap
