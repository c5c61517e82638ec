"""The checks of role `regularizer`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers.contract import failures, own_checks


@dataclass(frozen=True)
class LossSpread:
    """A sound regularizer."""

    def penalty(self, step):
        losses = step.group_losses()
        return losses.max() - losses.min()


@dataclass(frozen=True)
class NoScalar(LossSpread):
    """A vector of one."""

    def penalty(self, step):
        return super().penalty(step)[None]


@dataclass(frozen=True)
class Detached(LossSpread):
    """A number that training cannot move."""

    def penalty(self, step):
        return super().penalty(step).detach()


@dataclass(frozen=True)
class MeanLoss(LossSpread):
    """The task's loss again, called fairness."""

    def penalty(self, step):
        return step.losses.mean()


@dataclass(frozen=True)
class FirstImage(LossSpread):
    """Weighs by the first image's label."""

    def penalty(self, step):
        return super().penalty(step) * (1 + step.labels[0])


@dataclass(frozen=True)
class GroupNumber(LossSpread):
    """Weighs by the number of the worst group."""

    def penalty(self, step):
        losses, present = step.losses_by_group()
        worst = torch.where(present, losses, -torch.inf).argmax()
        return super().penalty(step) * (1 + worst)


@dataclass(frozen=True)
class DictMemory(LossSpread):
    """Keeps its state where no checkpoint finds it."""

    def memory(self):
        return {}


@dataclass(frozen=True)
class NeedsTheFuture(LossSpread):
    """Needs what the engine does not have."""

    needs: ClassVar = frozenset({"next_batch"})


BROKEN = {
    "needs_what_the_engine_has": NeedsTheFuture(),
    "is_finite_and_differentiable": NoScalar(),
    "can_be_trained_on": Detached(),
    "one_group_costs_nothing": MeanLoss(),
    "order_of_images_does_not_matter": FirstImage(),
    "order_of_groups_does_not_matter": GroupNumber(),
    "memory_is_a_module": DictMemory(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("regularizer", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("regularizer") == set(BROKEN)


def test_a_sound_component_passes():
    assert failures("regularizer", LossSpread()) == {}
