"""The contract of role `reducer`."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.testing.cases import GROUPS
from fairquant.testing.contract import everywhere

SEEDS, UNITS = st.integers(0, 999), st.integers(1, 30)


def _importance(seed: int, units: int) -> Tensor:
    return torch.rand(3, units, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + 0.01


def gives_one_finite_score_a_unit(reducer: Any) -> None:
    """[G, U] becomes [U], finite."""

    def law(seed: int, units: int) -> None:
        found = reducer.reduce(_importance(seed, units), GROUPS)
        assert found.shape == (units,), f"[3, {units}] became {list(found.shape)}"
        assert torch.isfinite(found).all(), "it is not finite"

    everywhere(law, seed=SEEDS, units=UNITS)


def equal_groups_give_that_row_back(reducer: Any) -> None:
    """Where all groups have the same row, the result ranks the units as that row does."""

    def law(seed: int) -> None:
        row = _importance(seed, 20)[0]
        found = reducer.reduce(row.expand(3, -1).clone(), GROUPS)
        factor = found.sum() / row.sum()
        assert torch.allclose(found, row * factor), "units change their proportions though all groups agree"
        assert factor > 0, "units change their order though all groups agree"

    everywhere(law, seed=SEEDS)


def order_of_groups_does_not_matter(reducer: Any) -> None:
    """Rows and their names in another order: the same scores."""

    def law(seed: int, order: list[int]) -> None:
        given = _importance(seed, 20)
        one, two = reducer.reduce(given, GROUPS), reducer.reduce(given[order], tuple(GROUPS[g] for g in order))
        assert torch.allclose(one, two), f"the order {order} gives other scores"

    everywhere(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def leaves_its_input_alone(reducer: Any) -> None:
    """The importance is not changed."""
    given, kept = _importance(0, 20), _importance(0, 20)
    reducer.reduce(given, GROUPS)
    assert torch.equal(given, kept), "it changed the importance"


CHECKS = (
    gives_one_finite_score_a_unit, equal_groups_give_that_row_back, order_of_groups_does_not_matter, leaves_its_input_alone,
)  # fmt: skip
