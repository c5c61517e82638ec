"""What every role shares: a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from fairquant_fair.accuracy import group_accuracy, nan_spread
from helpers.contract import failures

from fairquant.roles import Rates


@dataclass(frozen=True)
class Gap:
    """A sound metric."""

    needs: ClassVar = "confusion"
    gap: ClassVar = True

    def evaluate(self, confusion):
        accuracy = group_accuracy(confusion)
        return Rates(nan_spread(accuracy), accuracy)


@dataclass
class NotFrozen:
    """Mutable."""

    needs: ClassVar = "confusion"
    gap: ClassVar = True
    evaluate = Gap.evaluate


@dataclass(frozen=True)
class NoDocstring:
    needs: ClassVar = "confusion"
    gap: ClassVar = True
    evaluate = Gap.evaluate


@dataclass(frozen=True)
class WantsMore(Gap):
    """Needs an argument that the engine does not pass."""

    def evaluate(self, confusion, baseline):
        return Gap.evaluate(self, confusion)


@dataclass(frozen=True)
class DoublesItself(Gap):
    """Its option grows each time a recipe is read."""

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", self.scale * 2)


BROKEN = {
    "is_a_frozen_dataclass": NotFrozen(),
    "has_a_docstring": NoDocstring(),
    "signature_fits_the_role": WantsMore(),
    "recipe_round_trip": DoublesItself(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("metric", BROKEN[check])) == [check]
