"""The checks of role `reducer`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from helpers.contract import failures, own_checks


@dataclass(frozen=True)
class KeepsAxis:
    """The mean, with an axis too many."""

    def reduce(self, importance, group_names):
        return importance.mean(0, keepdim=True)


@dataclass(frozen=True)
class Squares:
    """The mean, squared."""

    def reduce(self, importance, group_names):
        return importance.mean(0) ** 2


@dataclass(frozen=True)
class First:
    """Group 0, whichever it is."""

    def reduce(self, importance, group_names):
        return importance[0].clone()


@dataclass(frozen=True)
class Rounds:
    """The mean; rounds its input on the way."""

    def reduce(self, importance, group_names):
        mean = importance.mean(0)
        importance.copy_(importance.round(decimals=6))
        return mean


BROKEN = {
    "gives_one_finite_score_a_unit": KeepsAxis(),
    "equal_groups_give_that_row_back": Squares(),
    "order_of_groups_does_not_matter": First(),
    "leaves_its_input_alone": Rounds(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("reducer", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("reducer") == set(BROKEN)
