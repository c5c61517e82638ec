"""Larger margins for rare classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.roles import Step

MOST_CLASSES = 1024


class _Counts(nn.Module):
    """seen [MOST_CLASSES]: how often each class has occurred."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(MOST_CLASSES, dtype=torch.double))


@dataclass(frozen=True)
class ClassMargin:
    """weight * (cross-entropy with margins - cross-entropy), class c's logit lowered by margin * (n_min / n_c)^(1/4).

    The label-distribution-aware margin of Cao et al. (arXiv 1906.07413), as an addition to the plain loss; n_c is
    counted during training. For up to 1024 classes.
    """

    exempt: ClassVar[dict[str, str]] = {"one_group_costs_nothing": "it concerns rare classes, not groups"}
    weight: float = 0.5
    margin: float = 0.5

    def __post_init__(self) -> None:
        if self.weight < 0 or self.margin < 0:
            raise ValueError(f"weight: weight and margin must not be negative, got {self.weight!r}, {self.margin!r}")

    def memory(self) -> nn.Module:
        """The class counts."""
        return _Counts()

    def penalty(self, step: Step) -> Tensor:
        """The weighted difference of the losses, from logits [B, C]: a scalar []. Updates the counts in step.memory."""
        assert isinstance(step.memory, _Counts)
        classes = step.logits.shape[1]
        step.memory.seen[:classes] += torch.bincount(step.labels, minlength=classes).to(step.memory.seen)
        count = step.memory.seen[:classes].clamp_min(1)
        margins = (self.margin * (count.min() / count) ** 0.25).to(step.logits)
        lowered = step.logits - F.one_hot(step.labels, classes) * margins[step.labels][:, None]
        return self.weight * (F.cross_entropy(lowered, step.labels) - F.cross_entropy(step.logits, step.labels))
