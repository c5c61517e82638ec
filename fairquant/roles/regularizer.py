"""Role `regularizer`: what is added to the task's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BitState:
    """Learnable bits, all units side by side: logits, start [U]; bits [U] (differentiable); sizes [U]; the budget."""

    logits: Tensor
    start: Tensor
    bits: Tensor
    sizes: Tensor
    budget: float

    @property
    def average(self) -> Tensor:
        """Bits per weight, a differentiable scalar []."""
        return (self.bits * self.sizes).sum() / self.sizes.sum()

    @property
    def spent(self) -> Tensor:
        """Bits per weight as they would be rounded now, a scalar []."""
        return (self.bits.detach().round() * self.sizes).sum() / self.sizes.sum()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step. losses [B] (per sample), logits [B, C], labels [B], groups [B]; bits is None unless learned.

    Only for regularizers whose class says so in `needs` (a frozenset of names): features [B, D], what the classifier
    saw; teacher [B, C], the full-precision model's logits.
    """

    losses: Tensor
    logits: Tensor
    labels: Tensor
    groups: Tensor
    group_count: int
    bits: BitState | None = None
    memory: nn.Module | None = None  # what regularizer.memory() made: kept over steps and in checkpoints
    features: Tensor | None = None
    teacher: Tensor | None = None
    running: Tensor | None = None  # running group losses [G], NaN until seen; see train.running_group_losses

    def losses_by_group(self) -> tuple[Tensor, Tensor]:
        """Mean loss of each group [G] and which of them count [G]: those in the batch, or seen before where running
        losses are kept. A running loss gives the value, the batch the gradient."""
        member = torch.nn.functional.one_hot(self.groups, self.group_count).to(self.losses.dtype)
        count = member.sum(0)
        means = member.T @ self.losses / count.clamp_min(1)
        present = count > 0
        if self.running is None:
            return means, present
        known = torch.isfinite(self.running)
        value = torch.where(known, self.running, means.detach())
        return value + torch.where(present, means - means.detach(), torch.zeros_like(means)), present | known

    def group_losses(self) -> Tensor:
        """Mean loss of each group that counts [at most G]."""
        losses, present = self.losses_by_group()
        return losses[present]


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

    Optional: state over steps, see `KeepsMemory`; features or teacher logits, see `NeedsInputs`.
    """

    def penalty(self, step: Step) -> Tensor:
        """What is added to the loss, a scalar []."""
        ...


@runtime_checkable
class KeepsMemory(Protocol):
    """A regularizer with state over steps, such as dual weights: what `memory()` returns comes back as
    `step.memory` and is checkpointed with the model."""

    def memory(self) -> nn.Module: ...


@runtime_checkable
class NeedsInputs(Protocol):
    """A regularizer that reads `step.features` or `step.teacher`; they are computed only where a class asks for them."""

    needs: ClassVar[frozenset[str]]


def inputs_needed(regularizer: Regularizer) -> frozenset[str]:
    """ "features" and "teacher", as far as the regularizer asks for them."""
    return regularizer.needs if isinstance(regularizer, NeedsInputs) else frozenset()
