"""Iterative training: round by round, a growing fraction of the units keeps its weights while the others compensate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairquant.bits.attach import Attachment
from fairquant.recipe.sections import TrainSettings
from fairquant.training.callbacks import Callback


class FrozenUnits(Callback):
    """Freezes units at the weights that they have when an epoch begins, least important first."""

    def __init__(self, attachment: Attachment, settings: TrainSettings) -> None:
        super().__init__()
        self.attachment, self.settings = attachment, settings
        self.frozen: list[Frozen] = []

    def begin_epoch(self, epoch: int, step: int) -> bool:
        """Within an epoch the weights of frozen units are those of its beginning: nothing needs to be saved."""
        fraction = frozen_fraction(self.settings, epoch)
        self.frozen = freeze_units(self.attachment, fraction) if fraction > 0 else []
        return False

    def after_step(self) -> None:
        for rows in self.frozen:
            rows.restore()


@dataclass(frozen=True)
class Frozen:
    """Rows of one layer's weight that stay as they are."""

    weight: Tensor
    rows: Tensor
    values: Tensor

    @torch.no_grad()
    def restore(self) -> None:
        self.weight[self.rows] = self.values


def frozen_fraction(settings: TrainSettings, epoch: int) -> float:
    """Fraction of units frozen in this epoch: 0 in the first round, 1 - 1/rounds in the last."""
    return (epoch * settings.rounds // max(settings.epochs, 1)) / settings.rounds


def freeze_units(attachment: Attachment, fraction: float) -> list[Frozen]:
    """The given fraction of units, those with the least importance per weight, at their present weights."""
    scores = attachment.scores
    if scores is None:
        scores = torch.zeros(sum(layer.units for layer in attachment.layers))
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[torch.argsort(scores, stable=True)[: round(fraction * len(scores))]] = True
    frozen = []
    for layer, units in zip(
        attachment.layers, torch.split(chosen, [layer.units for layer in attachment.layers]), strict=True
    ):
        rows = units.expand(layer.rows).nonzero().flatten() if len(units) == 1 else units.nonzero().flatten()
        if len(rows):
            weight = layer.weight
            frozen.append(Frozen(weight, rows.to(weight.device), weight.detach()[rows.to(weight.device)].clone()))
    return frozen
