"""Allocators on allocation problems: the law for all, the paper's rule by hand."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.quantile import Quantile
from fairquant_rivals.uniform import UniformBits
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.errors import Infeasible
from fairquant.roles import AllocationProblem


def problem(units: int, choices: tuple[int, ...], average: float, seed: int = 0, groups: int = 2) -> AllocationProblem:
    draw = torch.Generator().manual_seed(seed)
    group_scores = torch.rand(groups, units, generator=draw, dtype=torch.double) ** 4
    errors = torch.rand(units, 1, generator=draw, dtype=torch.double) * 4.0 ** -torch.tensor(
        choices, dtype=torch.double
    )
    sizes = torch.randint(1, 50, (units,), generator=draw)
    allowed = torch.ones(units, len(choices), dtype=torch.bool)
    return AllocationProblem(
        scores=group_scores.max(0).values,
        group_scores=group_scores,
        sizes=sizes,
        errors=errors,
        allowed=allowed,
        choices=choices,
        average_bits=average,
    )


@settings(max_examples=80, deadline=None)
@given(
    units=st.integers(1, 60), average=st.floats(0.1, 8), seed=st.integers(0, 999), groups=st.integers(1, 5),
    choices=st.sampled_from([(0, 2, 4, 8), (2, 4, 8), (0, 1, 2, 3, 4, 5, 6, 7, 8), (3,), (2, 4, 6, 8)]),
    allocator=st.sampled_from([Knapsack(), Minimax(), Quantile(), Quantile((2, 4), (0.5, 0.5)), UniformBits(), UniformBits(4)]),
)  # fmt: skip
def test_every_allocator_keeps_the_law(units, average, seed, groups, choices, allocator):
    given = problem(units, choices, average, seed, groups)
    try:
        bits = allocator.allocate(given).bits
    except Infeasible:
        wanted = getattr(allocator, "levels", None) or ((allocator.bits,) if getattr(allocator, "bits", None) else ())
        assert given.least_bits() > average or any(w not in choices for w in wanted) or min(wanted, default=9) > average
        return
    assert bits.shape == (units,)
    assert set(bits.tolist()) <= set(choices)
    assert float((bits * given.sizes).sum()) <= average * float(given.sizes.sum()) * (1 + 1e-9)


def test_the_papers_quantile_rule_by_hand():
    given = problem(10, (2, 4, 8), 8.0)
    allocation = Quantile((2, 4, 8), (0.2, 0.4, 0.4)).allocate(given)
    order = torch.argsort(given.scores)
    assert allocation.bits[order].tolist() == [2] * 2 + [4] * 4 + [8] * 4
    assert allocation.nominal_bits == pytest.approx(5.2)


def test_quantile_meets_a_budget_that_its_shares_exceed():
    given = problem(100, (2, 4, 8), 3.0)
    allocation = Quantile().allocate(given)
    actual = float((allocation.bits * given.sizes).sum() / given.sizes.sum())
    assert allocation.nominal_bits == pytest.approx(5.2)
    assert 2.7 < actual <= 3.0
    # the least important go down first
    assert given.scores[allocation.bits == 2].mean() < given.scores[allocation.bits > 2].mean()


def test_pinned_units_keep_their_bits():
    given = problem(20, (0, 2, 4, 8), 3.0)
    given.allowed[3] = torch.tensor([False, False, False, True])
    for allocator in (Knapsack(), Minimax(), Quantile(), UniformBits(2)):
        assert int(allocator.allocate(given).bits[3]) == 8


def test_knapsack_gives_bits_to_what_matters():
    given = problem(200, (0, 2, 4, 8), 3.0, groups=1)
    bits = Knapsack().allocate(given).bits.double()
    damage = given.scores * given.errors[:, 0] / given.sizes
    assert bits[damage > damage.median()].mean() > bits[damage <= damage.median()].mean() + 1


def test_an_infeasible_budget_is_said():
    with pytest.raises(Infeasible, match="below what the cheapest plan costs"):
        Knapsack().allocate(problem(5, (2, 4), 1.0))
    with pytest.raises(Infeasible, match="4 bits everywhere exceed the budget of 3 bits"):
        UniformBits(4).allocate(problem(5, (2, 4), 3.0))
    with pytest.raises(ValueError, match="sum to 1"):
        Quantile((2, 4), (0.5, 0.6))
