"""The regularizers of the FairQuant paper (arXiv 2602.23192)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fairquant.roles import Step


def check_weight(weight: float) -> None:
    """ValueError for a negative weight."""
    if weight < 0:
        raise ValueError(f"weight: must not be negative, got {weight!r}")


@dataclass(frozen=True)
class LossGap:
    """weight * (max_g L_g - min_g L_g) over the groups in the batch; 0 where only one is present."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted gap of the group losses [G], a scalar []."""
        losses = step.group_losses()
        return self.weight * (losses.max() - losses.min())


@dataclass(frozen=True)
class BitAnchor:
    """weight * mean((theta_b - theta_b0)^2): keeps bits near the importance-based plan. 0 where bits are not learned."""

    weight: float = 1e-2

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted mean squared distance of the bit logits [U] from their start, a scalar []."""
        if step.bits is None:
            return step.losses.new_zeros(())
        return self.weight * (step.bits.logits - step.bits.start).square().mean()


@dataclass(frozen=True)
class BitL2:
    """weight * sum(theta_b^2): pressure towards the fewest bits (as in the official code when the paper appeared)."""

    weight: float = 1e-4

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted sum of the squared bit logits [U], a scalar []."""
        if step.bits is None:
            return step.losses.new_zeros(())
        return self.weight * step.bits.logits.square().sum()
