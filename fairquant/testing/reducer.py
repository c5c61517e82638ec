"""The contract of role `reducer`."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.roles import Reducer
from fairquant.testing.cases import GROUPS
from fairquant.testing.contract import for_all

SEEDS, UNITS = st.integers(0, 999), st.integers(1, 30)


def _importance(seed: int, units: int) -> Tensor:
    """Positive scores [3, units]."""
    return torch.rand(3, units, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + 0.01


def gives_one_finite_score_a_unit(reducer: Reducer) -> None:
    """[G, U] becomes [U], finite."""

    def law(seed: int, units: int) -> None:
        scores = reducer.reduce(_importance(seed, units), GROUPS)
        assert scores.shape == (units,), f"[3, {units}] became {list(scores.shape)}"
        assert torch.isfinite(scores).all(), "the scores are not finite"

    for_all(law, seed=SEEDS, units=UNITS)


def equal_groups_give_that_row_back(reducer: Reducer) -> None:
    """Where all groups have the same row, the result is proportional to that row."""

    def law(seed: int) -> None:
        row = _importance(seed, 20)[0]
        scores = reducer.reduce(row.expand(3, -1).clone(), GROUPS)
        factor = scores.sum() / row.sum()
        assert torch.allclose(scores, row * factor), "all groups agree, but the scores are not proportional to theirs"
        assert factor > 0, "all groups agree, but the order of the units is reversed"

    for_all(law, seed=SEEDS)


def order_of_groups_does_not_matter(reducer: Reducer) -> None:
    """Rows and their names in another order give the same scores."""

    def law(seed: int, order: list[int]) -> None:
        importance = _importance(seed, 20)
        one = reducer.reduce(importance, GROUPS)
        two = reducer.reduce(importance[order], tuple(GROUPS[g] for g in order))
        assert torch.allclose(one, two), f"the order {order} gives other scores"

    for_all(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def leaves_its_input_alone(reducer: Reducer) -> None:
    """The importance is not modified."""
    importance, original = _importance(0, 20), _importance(0, 20)
    reducer.reduce(importance, GROUPS)
    assert torch.equal(importance, original), "it modified the importance"


CHECKS = (
    gives_one_finite_score_a_unit, equal_groups_give_that_row_back, order_of_groups_does_not_matter, leaves_its_input_alone,
)  # fmt: skip
