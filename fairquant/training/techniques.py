"""The techniques that a training's settings ask for, acting together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import nn

from fairquant.bits.attach import Attachment
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import BitPlan
from fairquant.training.average import WeightAverage
from fairquant.training.callbacks import Callback
from fairquant.training.oscillation import OscillationFreezing
from fairquant.training.rounds import FrozenUnits
from fairquant.training.widths import HeldBudget, Narrowing, Replanning


class Techniques(nn.Module):
    """In the order in which they act. Those of quantizers are left out where there are none: in full precision."""

    def __init__(
        self, network: nn.Module, settings: TrainSettings, attachment: Attachment | None, replan: Callable[[], BitPlan] | None
    ) -> None:  # fmt: skip
        super().__init__()
        self.each: list[Callback] = [] if attachment is None else list(_on_bits(settings, attachment, replan))
        self.average = WeightAverage(network, settings.weight_average) if settings.weight_average > 0 else None
        self.each += [] if self.average is None else [self.average]
        self.kept = nn.ModuleList(self.each)

    def begin_epoch(self, epoch: int, step: int) -> None:
        """Before the first step of an epoch, or before the next one where a checkpoint was loaded."""
        changed = [each.begin_epoch(epoch, step) for each in self.each]
        if any(changed):
            for each in self.each:
                each.restart()

    def after_step(self) -> None:
        for each in self.each:
            each.after_step()

    def changes_widths(self, epoch: int) -> bool:
        """Whether this epoch cannot be the one that is kept: its bits are not those that ship."""
        return any(each.changes_widths(epoch) for each in self.each)

    def averaged(self) -> AbstractContextManager[None]:
        """Within the block the network has the weights that would be kept: averaged ones where the settings ask for them."""
        return nullcontext() if self.average is None else self.average.in_place()

    def keep_average(self) -> None:
        """The training is over: the averaged weights stay."""
        if self.average is not None:
            self.average.swap()


def _on_bits(settings: TrainSettings, attachment: Attachment, replan: Callable[[], BitPlan] | None) -> list[Callback]:
    made = list[Callback]([HeldBudget(attachment, settings)] if attachment.learns_bits else [])
    if settings.rounds > 1:
        made.append(FrozenUnits(attachment, settings))
    if settings.narrow_until > 0:
        made.append(Narrowing(attachment, settings))
    if settings.replan and replan is not None:
        made.append(Replanning(attachment, settings, replan))
    if settings.freeze_oscillating > 0:
        made.append(OscillationFreezing(attachment, settings.freeze_oscillating))
    return made
