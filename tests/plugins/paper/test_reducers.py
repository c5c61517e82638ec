"""Reducers against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.reducers import Balanced, Cvar, Max, Mean, Subtractive

from fairquant.errors import UserError

SCORES = torch.tensor([[1.0, 8.0, 3.0], [4.0, 2.0, 3.0], [7.0, 5.0, 3.0], [0.0, 1.0, 3.0]])


NAMES = ("a", "b", "c", "d")


def test_by_hand():
    assert Max().reduce(SCORES, NAMES).tolist() == [7, 8, 3]
    assert Mean().reduce(SCORES, NAMES).tolist() == [3, 4, 3]
    assert Cvar(0.5).reduce(SCORES, NAMES).tolist() == [5.5, 6.5, 3]
    # 0.6 of 4 groups = 2.4: the two worst and 0.4 of the third
    assert Cvar(0.6).reduce(SCORES, NAMES).tolist() == pytest.approx([(7 + 4 + 0.4) / 2.4, (8 + 5 + 0.8) / 2.4, 3])


def test_cvar_goes_from_max_to_mean_and_is_not_the_mean_at_a_small_level():
    assert torch.equal(Cvar(0.01).reduce(SCORES, NAMES), Max().reduce(SCORES, NAMES))
    torch.testing.assert_close(Cvar(1.0).reduce(SCORES, NAMES), Mean().reduce(SCORES, NAMES))
    assert not torch.allclose(Cvar(0.1).reduce(SCORES, NAMES), Mean().reduce(SCORES, NAMES))
    with pytest.raises(ValueError, match="alpha"):
        Cvar(0)


def test_balanced_reflects_a_group_with_small_gradients():
    quiet = torch.tensor([[100.0, 1.0], [0.1, 0.9]])
    reduced = Balanced().reduce(quiet, ("loud", "quiet"))
    fractions = quiet.sum(1) / quiet.sum()
    assert reduced.tolist() == pytest.approx([float(100 / fractions[0]), float(0.9 / fractions[1])])
    assert reduced[1] > quiet[1, 1]


def test_subtractive_needs_the_unprivileged_group_by_name_wherever_it_stands():
    two = SCORES[:2]
    assert Subtractive("b", beta=0.5).reduce(two, ("a", "b")).tolist() == [3.5, -2, 1.5]
    assert Subtractive("a", beta=0.5).reduce(two, ("a", "b")).tolist() == [-1, 7, 1.5]
    with pytest.raises(UserError, match="no group is called 'x'"):
        Subtractive("x").reduce(two, ("a", "b"))


@pytest.mark.parametrize("reducer", [Max(), Mean(), Cvar(0.3)])
def test_equal_groups_give_their_scores_back(reducer):
    row = torch.tensor([3.0, 1.0, 2.0])
    torch.testing.assert_close(reducer.reduce(row.repeat(4, 1), NAMES), row)
