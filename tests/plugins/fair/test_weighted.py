"""The weighted reducer against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.weighted import Weighted

from fairquant.errors import UserError

SCORES, NAMES = torch.tensor([[1.0, 8.0], [4.0, 2.0]]), ("young", "old")


def test_by_hand():
    assert Weighted().reduce(SCORES, NAMES).tolist() == [2.5, 5.0]
    assert Weighted({"old": 3.0}).reduce(SCORES, NAMES).tolist() == [13 / 4, 14 / 4]
    assert Weighted({"young": 0.0}).reduce(SCORES, NAMES).tolist() == [4.0, 2.0]


def test_groups_that_are_not_there_and_weights_that_are_none_are_refused():
    with pytest.raises(
        UserError, match=r"reducer.weights: no group is called 'od'. Did you mean 'old'\? Groups: young, old"
    ):
        Weighted({"od": 2.0}).reduce(SCORES, NAMES)
    with pytest.raises(UserError, match="nobody would count"):
        Weighted({"young": 0.0, "old": 0.0}).reduce(SCORES, NAMES)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights: 'old': must be a finite number"):
            Weighted({"old": weight})
