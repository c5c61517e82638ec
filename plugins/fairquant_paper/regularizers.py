"""The paper's regularizers (reference 1.6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fairquant.roles import Step


def check_weight(weight: float) -> None:
    if weight < 0:
        raise ValueError(f"weight: must not be negative, got {weight!r}")


@dataclass(frozen=True)
class LossGap:
    """weight * (max_g L_g - min_g L_g) over the groups in the batch; 0 where only one is present."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        losses = step.group_losses()
        return self.weight * (losses.max() - losses.min())


@dataclass(frozen=True)
class BitAnchor:
    """weight * mean((theta_b - theta_b0)^2): bits stay near the importance-based plan. 0 where bits are not learnt."""

    weight: float = 1e-2

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        if step.bits is None:
            return step.losses.new_zeros(())
        return self.weight * (step.bits.logits - step.bits.start).square().mean()


@dataclass(frozen=True)
class BitL2:
    """weight * sum(theta_b^2): pressure towards the fewest bits (the official code at the paper's time)."""

    weight: float = 1e-4

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        if step.bits is None:
            return step.losses.new_zeros(())
        return self.weight * step.bits.logits.square().sum()
