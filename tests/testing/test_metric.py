"""The checks of role `metric`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from fairquant_fair.accuracy import Accuracy, group_accuracy
from helpers.contract import Gap, failures, own_checks

from fairquant.roles import Rates


@dataclass(frozen=True)
class UnclearGap(Gap):
    """A word where True or False belongs."""

    gap: ClassVar = "yes"


@dataclass(frozen=True)
class FirstGroup(Gap):
    """Takes group 0 for the one that counts."""

    gap: ClassVar = False

    def evaluate(self, confusion):
        accuracy = group_accuracy(confusion)
        return Rates(accuracy[..., 0], accuracy)


@dataclass(frozen=True)
class FirstHalf:
    """Looks at the first half of the images only."""

    needs: ClassVar = "predictions"
    gap: ClassVar = False

    def evaluate(self, predictions):
        right = predictions.predicted == predictions.labels
        return Rates(right[: len(right) // 2].mean())


@dataclass(frozen=True)
class NeverZero(Gap):
    """A gap that does not go below a tenth."""

    def evaluate(self, confusion):
        rates = Gap.evaluate(self, confusion)
        return replace(rates, value=rates.value + 0.1)


@dataclass(frozen=True)
class AllTogether(Gap):
    """Adds all replicates up."""

    gap: ClassVar = False

    def evaluate(self, confusion):
        return Rates(np.asarray(confusion.hits.sum() / confusion.table.sum()))


@dataclass(frozen=True)
class ExtraAxis(Gap):
    """by_group with an axis too many."""

    def evaluate(self, confusion):
        rates = Gap.evaluate(self, confusion)
        return replace(rates, by_group=rates.by_group[..., None])


@dataclass(frozen=True)
class NoEmptyGroups(Gap):
    """Gives up where a group has no images."""

    def evaluate(self, confusion):
        if (confusion.images == 0).any():
            raise ZeroDivisionError("a group has no images")
        return Gap.evaluate(self, confusion)


@dataclass(frozen=True)
class OtherWeights:
    """Its fast way is not its slow way."""

    needs: ClassVar = "predictions"
    gap: ClassVar = False

    def evaluate(self, predictions):
        return Rates(np.asarray((predictions.predicted == predictions.labels).mean()))

    def weighted(self, predictions, weights):
        return weights @ (predictions.predicted == predictions.labels)


@dataclass(frozen=True)
class CountsOthers(Accuracy):
    """Counts images of one class for a value over all."""

    def counted(self, predictions):
        return predictions.labels == 0, predictions.predicted == predictions.labels


@dataclass(frozen=True)
class Smooths(Gap):
    """Smooths the counts in place."""

    def evaluate(self, confusion):
        confusion.table[...] += 0.5
        return Gap.evaluate(self, confusion)


@dataclass(frozen=True)
class Shouts(Gap):
    """A qualifier that no file name takes."""

    qualifier: ClassVar = "VERY good"


BROKEN = {
    "direction_and_qualifier_can_be_shown": Shouts(),
    "says_what_it_needs": UnclearGap(),
    "order_and_names_of_groups_do_not_matter": FirstGroup(),
    "order_of_images_does_not_matter": FirstHalf(),
    "equal_groups_have_no_gap": NeverZero(),
    "takes_replicates_at_once": AllTogether(),
    "has_one_value_a_group": ExtraAxis(),
    "survives_an_empty_group": NoEmptyGroups(),
    "weights_of_one_give_the_value": OtherWeights(),
    "counted_images_give_the_value": CountsOthers(),
    "leaves_its_input_alone": Smooths(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    found = failures("metric", BROKEN[check])
    if (
        check == "leaves_its_input_alone"
    ):  # nothing that it is given can be written into: every check that evaluates it fails
        assert "it writes into its input" in str(found[check])
    else:
        assert list(found) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("metric") == set(BROKEN)


def test_a_sound_component_passes():
    assert failures("metric", Gap()) == {}
