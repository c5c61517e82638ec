"""Role `regularizer`: what is added to the task's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BitState:
    """Learnable bits, all units side by side: logits, start [U]; bits [U] (differentiable); sizes [U]; the budget."""

    logits: Tensor
    start: Tensor
    bits: Tensor
    sizes: Tensor
    budget: float

    @property
    def average(self) -> Tensor:
        """Bits per weight, differentiable."""
        return (self.bits * self.sizes).sum() / self.sizes.sum()


@dataclass(frozen=True)
class Step:
    """One training step. losses [B] (per sample), logits [B, C], labels [B], groups [B]; bits is None unless learnt."""

    losses: Tensor
    logits: Tensor
    labels: Tensor
    groups: Tensor
    group_count: int
    bits: BitState | None = None
    memory: nn.Module | None = None  # what regularizer.memory() made: kept over steps and in checkpoints

    def group_losses(self) -> Tensor:
        """Mean loss of each group that is in the batch [at most G]."""
        present = [self.losses[self.groups == group] for group in range(self.group_count)]
        means = [losses.mean() for losses in present if len(losses)]
        return self.losses.new_tensor([]) if not means else torch.stack(means)


@runtime_checkable
class Regularizer(Protocol):
    """A scalar added to the loss.

    Law: finite and differentiable; a fairness regularizer is 0 where there is one group.

        @dataclass(frozen=True)
        class WorstGroup:
            weight: float = 1.0
            def penalty(self, step):
                losses = step.group_losses()
                return self.weight * (losses.max() - step.losses.mean())

    One that keeps something over steps (dual weights, running means) also has `memory() -> nn.Module`; what it
    returns comes back as `step.memory` and is checkpointed with the model.
    """

    def penalty(self, step: Step) -> Tensor: ...
