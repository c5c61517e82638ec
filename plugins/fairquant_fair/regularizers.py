"""Our regularizers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairquant.roles import Step


@dataclass(frozen=True)
class GroupVariance:
    """weight * variance over groups of the group losses (each group counts alike)."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight: must not be negative, got {self.weight!r}")

    def penalty(self, step: Step) -> Tensor:
        losses = step.group_losses()
        return self.weight * (losses - losses.mean()).square().mean()


@dataclass(frozen=True)
class BitBudget:
    """weight * price * (average bits - budget), the price of a bit found by dual ascent.

    price <- max(0, price + rate * (average - budget)), of the bits rounded as they are spent: it rises while they are
    over the budget and falls while they are under it, so that bits settle where the last of them is worth the same
    everywhere.
    """

    weight: float = 1.0
    rate: float = 0.05
    start: float = 0.05

    def __post_init__(self) -> None:
        for name in ("weight", "rate", "start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)!r}")

    def memory(self) -> nn.Module:
        return _Multiplier(self.start)

    def penalty(self, step: Step) -> Tensor:
        if step.bits is None:
            return step.losses.new_zeros(())
        excess = step.bits.average - step.bits.budget
        multiplier = step.memory.multiplier if isinstance(step.memory, _Multiplier) else torch.tensor(self.start)
        if isinstance(step.memory, _Multiplier):
            with torch.no_grad():
                multiplier.add_(self.rate * (step.bits.spent - step.bits.budget)).clamp_(min=0)
        return self.weight * multiplier.detach().clone() * excess


class _Multiplier(nn.Module):
    multiplier: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("multiplier", torch.tensor(start))
