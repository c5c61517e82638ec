"""The same bits for every unit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fairquant_rivals.uniform import UniformBits
from helpers.allocation import random_allocation

from fairquant.errors import Infeasible


def test_without_bits_of_its_own_the_largest_choice_within_the_budget_is_taken():
    assert UniformBits().allocate(random_allocation(5, (2, 4, 8), 5.0)).bits.tolist() == [4] * 5
    assert UniformBits(2).allocate(random_allocation(5, (2, 4, 8), 5.0)).bits.tolist() == [2] * 5


def test_pinned_units_count_against_the_budget():
    problem = replace(random_allocation(4, (2, 4, 8), 4.0), sizes=torch.full((4,), 10))
    problem.allowed[0] = torch.tensor([False, False, True])
    assert UniformBits().allocate(problem).bits.tolist() == [8, 2, 2, 2]


def test_bits_that_are_no_choice_or_exceed_the_budget_are_refused():
    with pytest.raises(Infeasible, match=r"allocator.bits: 3 is not among quantize.choices \[2, 4\]"):
        UniformBits(3).allocate(random_allocation(4, (2, 4), 8.0))
    with pytest.raises(Infeasible, match="4 bits everywhere exceed the budget of 3 bits"):
        UniformBits(4).allocate(random_allocation(4, (2, 4), 3.0))
    with pytest.raises(ValueError, match=r"bits: must be within 0..8, got 9"):
        UniformBits(9)


def test_a_recipe_is_refused_before_anything_is_measured():
    assert UniformBits(4).objections(3.0, (2, 8)) == [
        ("budget.average_bits", "3 is below the allocator's 4 bits everywhere"),
        ("quantize.choices", "the allocator's 4 bits are not among [2, 8]"),
    ]
    assert UniformBits().objections(0.5, (8,)) == []
