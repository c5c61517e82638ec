"""What holds for every allocator."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.quantile import Quantile
from fairquant_rivals.probing import Fmpq, Impq
from fairquant_rivals.ranked import FairGrape, FairPrune, FairQuantize
from fairquant_rivals.uniform import UniformBits
from helpers.allocation import probed_allocation, random_allocation
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.errors import Infeasible


@settings(max_examples=80, deadline=None)
@given(
    units=st.integers(1, 60), average=st.floats(0.1, 8), seed=st.integers(0, 999), groups=st.integers(1, 5),
    choices=st.sampled_from([(0, 2, 4, 8), (2, 4, 8), (0, 1, 2, 3, 4, 5, 6, 7, 8), (3,), (2, 4, 6, 8)]),
    allocator=st.sampled_from([Knapsack(), Minimax(), Quantile(), Quantile((2, 4), (0.5, 0.5)), UniformBits(), UniformBits(4)]),
)  # fmt: skip
def test_every_allocator_keeps_the_law(units, average, seed, groups, choices, allocator):
    problem = random_allocation(units, choices, average, seed, groups)
    try:
        bits = allocator.allocate(problem).bits
    except Infeasible:
        own_bits = getattr(allocator, "levels", None) or ((allocator.bits,) if getattr(allocator, "bits", None) else ())
        assert (
            problem.least_bits() > average
            or any(w not in choices for w in own_bits)
            or min(own_bits, default=9) > average
        )
        return
    assert bits.shape == (units,)
    assert set(bits.tolist()) <= set(choices)
    assert float((bits * problem.sizes).sum()) <= average * float(problem.sizes.sum()) * (1 + 1e-9)


def test_pinned_units_keep_their_bits():
    problem = random_allocation(20, (0, 2, 4, 8), 3.0)
    problem.allowed[3] = torch.tensor([False, False, False, True])
    for allocator in (Knapsack(), Minimax(), Quantile(), UniformBits(2)):
        assert int(allocator.allocate(problem).bits[3]) == 8


def test_an_infeasible_budget_is_reported():
    with pytest.raises(Infeasible, match="below what the cheapest plan costs"):
        Knapsack().allocate(random_allocation(5, (2, 4), 1.0))
    with pytest.raises(Infeasible, match="4 bits everywhere exceed the budget of 3 bits"):
        UniformBits(4).allocate(random_allocation(5, (2, 4), 3.0))
    with pytest.raises(ValueError, match="sum to 1"):
        Quantile((2, 4), (0.5, 0.6))


RIVALS = [
    FairQuantize("dark"), FairQuantize("light", beta=0.9, low=3, high=4), FairPrune("dark"), FairGrape(), Fmpq(),
    Fmpq("worst-group"), Impq(permutations=3), Impq(permutations=3, loss="worst-group"),
]  # fmt: skip


@pytest.mark.parametrize("average", [2.5, 3.0, 3.4, 4.0, 6.0])
@pytest.mark.parametrize("allocator", RIVALS, ids=str)
def test_within_the_budget_with_allowed_bits_and_pins_kept(allocator, average):
    for seed in range(3):
        problem = probed_allocation([1.0, 0.1, 0.5, 0.2, 0.05, 2.0], average=average, seed=seed)
        try:
            bits = allocator.allocate(problem).bits
        except Infeasible:
            assert getattr(allocator, "low", 0) == 3  # 3 bits everywhere and a pinned unit do not fit into 3
            assert average <= 3
            continue
        assert int(bits[0]) == 8
        place = torch.tensor([problem.choices.index(int(b)) for b in bits])
        assert problem.allowed[torch.arange(len(bits)), place].all()
        assert float((bits * problem.sizes).sum()) <= problem.capacity * (1 + 1e-12)
