"""Our regularizers: the variance of group losses, and the bit budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fairquant_paper.regularizers import check_weight
from torch import Tensor, nn

from fairquant.roles import Step


@dataclass(frozen=True)
class GroupVariance:
    """weight * variance over groups of the group losses; each group counts equally."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted variance of the group losses [G], a scalar []."""
        losses = step.group_losses()
        return self.weight * (losses - losses.mean()).square().mean()


@dataclass(frozen=True)
class BitBudget:
    """weight * multiplier * (average bits - budget), the Lagrange multiplier found by dual ascent.

    multiplier <- max(0, multiplier + rate * (average - budget)), with the average of the bits as they would be rounded: it
    rises while they exceed the budget and falls while they are below it, so that bits converge to a plan in which the last
    bit of every unit has the same gain per cost.
    """

    weight: float = 1.0
    rate: float = 0.05
    start: float = 0.05

    def __post_init__(self) -> None:
        for name in ("weight", "rate", "start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)!r}")

    def memory(self) -> nn.Module:
        """The multiplier, a scalar []."""
        return _Multiplier(self.start)

    def penalty(self, step: Step) -> Tensor:
        """The penalty on the bits [U], a scalar []; 0 where bits are not learned. Updates the multiplier in step.memory."""
        if step.bits is None:
            return step.losses.new_zeros(())
        excess = step.bits.average - step.bits.budget
        multiplier = step.memory.multiplier if isinstance(step.memory, _Multiplier) else torch.tensor(self.start)
        if isinstance(step.memory, _Multiplier):
            with torch.no_grad():
                multiplier.add_(self.rate * (step.bits.spent - step.bits.budget)).clamp_(min=0)
        return self.weight * multiplier.detach().clone() * excess


class _Multiplier(nn.Module):
    """multiplier []: the Lagrange multiplier of the budget."""

    multiplier: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("multiplier", torch.tensor(start))
