"""Distillation from the full-precision model: the most direct way to preserve each group's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from fairquant_paper.regularizers import check_weight
from torch import Tensor
from torch.nn import functional as F

from fairquant.roles import Step


@dataclass(frozen=True)
class Distillation:
    """weight * T^2 * KL(teacher || student) at temperature T (Hinton et al., arXiv 1503.02531).

    balanced: false averages over images, true over the groups in the batch, so that small groups count equally.
    It concerns predictions, not gaps, and so is not 0 for one group.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})
    exempt: ClassVar[dict[str, str]] = {"one_group_costs_nothing": "it concerns predictions, not gaps"}
    weight: float = 1.0
    temperature: float = 2.0
    balanced: bool = False

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if not self.temperature > 0:
            raise ValueError(f"temperature: must be positive, got {self.temperature!r}")

    def penalty(self, step: Step) -> Tensor:
        """The weighted mean of the divergences [B] of the logits from the teacher's, a scalar []."""
        assert step.teacher is not None
        student = F.log_softmax(step.logits / self.temperature, 1)
        teacher = F.log_softmax(step.teacher / self.temperature, 1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1) * self.temperature**2  # [B]
        if not self.balanced:
            return self.weight * divergence.mean()
        by_group = [divergence[step.groups == group] for group in range(step.group_count)]
        means = [group_divergence.mean() for group_divergence in by_group if len(group_divergence)]
        return self.weight * torch.stack(means).mean()
