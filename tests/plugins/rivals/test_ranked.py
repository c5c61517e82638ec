"""FairQuantize, FairPrune and FairGRAPE by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairquant_rivals.ranked import FairPrune, FairQuantize, pick_order
from helpers.allocation import layered_allocation

from fairquant.errors import UserError
from fairquant.roles import AllocationProblem


def test_fairquantize_lowers_what_serves_the_unprivileged_least():
    """Scores by hand: (H_dark - H_light / 2) * error at 2 bits; the ranks are not the argsort."""
    groups = torch.tensor([[1.0, 4.0, 2.0, 3.0], [1.0, 6.0, 0.0, 1.0]], dtype=torch.float64)
    problem = AllocationProblem(
        scores=groups[0], group_scores=groups, sizes=torch.full((4,), 10), errors=torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64),
        allowed=torch.ones(4, 2, dtype=torch.bool), choices=(2, 8), average_bits=5.0, group_names=("dark", "light"),
    )  # fmt: skip
    assert FairQuantize("dark").allocate(problem).bits.tolist() == [2, 2, 8, 8]  # scores .5, 1, 2, 2.5
    assert FairQuantize("light", beta=1).allocate(problem).bits.tolist() == [8, 8, 2, 2]  # 0, 2, -2, -2
    with pytest.raises(UserError, match="no group is called 'drak'. Did you mean 'dark'"):
        FairQuantize("drak").allocate(problem)


def test_fairprune_prunes_and_its_own_default_width_follows_the_budget():
    bits = FairPrune("dark").allocate(layered_allocation(average=3.0)).bits
    assert set(bits.tolist()) == {0, 4, 8}  # 8: the pinned unit
    assert (bits == 0).any()


def test_fairgrape_lets_the_group_with_the_largest_deficit_pick():
    importance = np.array([[8.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 7.0]])  # both groups have half of all importance
    # group 0 takes unit 0 and is over its fraction; group 1 takes unit 3 (7 of 15) and is still behind: unit 2; then 1
    assert pick_order(importance) == [0, 3, 2, 1]
