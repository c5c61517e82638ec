"""Bits that change while the weights are trained: learned, narrowed step by step to the plan, or planned anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from fairquant.bits.attach import Attachment
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import BitPlan
from fairquant.training.callbacks import Callback


class HeldBudget(Callback):
    """Learned bits stay within the budget, once they have narrowed to it: after every step all of them come down alike where
    together they cost too much."""

    def __init__(self, attachment: Attachment, settings: TrainSettings) -> None:
        super().__init__()
        self.attachment, self.holds = attachment, True
        self.wide = narrowing_epochs(settings)

    def begin_epoch(self, epoch: int, step: int) -> bool:
        self.holds = epoch >= self.wide
        return False

    def after_step(self) -> None:
        if self.holds:
            self.attachment.hold_budget()


def narrowing_epochs(settings: TrainSettings) -> int:
    """How many of the epochs begin with more bits than the plan has."""
    return math.ceil(settings.narrow_until * settings.epochs)


class Narrowing(Callback):
    """Units begin with the most bits that they may have and come down to the plan, evenly over the first epochs.

    In epoch e of the n that it takes, a unit has b + round((most - b) (n - e) / n) bits; from epoch n on, those of the plan.
    """

    def __init__(self, attachment: Attachment, settings: TrainSettings) -> None:
        super().__init__()
        self.attachment = attachment
        self.epochs = narrowing_epochs(settings)

    def begin_epoch(self, epoch: int, step: int) -> bool:
        left, widths = max(self.epochs - epoch, 0) / self.epochs, torch.tensor(self.attachment.choices.free)
        bits = {}
        for name, planned in self.attachment.start.bits.items():
            wanted = planned + left * (int(widths.max()) - planned)
            bits[name] = widths[(widths[None] - wanted[:, None]).abs().argmin(1)]  # one that the recipe allows
            bits[name] = torch.where(planned < bits[name], bits[name], planned)
        return self.attachment.change_bits(bits)

    def changes_widths(self, epoch: int) -> bool:
        return epoch < self.epochs


class Replanning(Callback):
    """Bits and weights by turns: after each epoch until `freeze_bits_after`, the allocator plans anew for the weights as they
    are now, by fresh importance to every group; then the weights are trained under that plan."""

    def __init__(self, attachment: Attachment, settings: TrainSettings, plan: Callable[[], BitPlan]) -> None:
        super().__init__()
        self.attachment, self.plan = attachment, plan
        self.epochs = math.ceil(settings.freeze_bits_after * settings.epochs)

    def begin_epoch(self, epoch: int, step: int) -> bool:
        if not 0 < epoch <= self.epochs or step:  # within an epoch the bits are those of the checkpoint
            return False
        return self.attachment.change_bits(self.plan().bits)

    def changes_widths(self, epoch: int) -> bool:
        return epoch < self.epochs
