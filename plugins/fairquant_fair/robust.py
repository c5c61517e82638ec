"""Regularizers that emphasize the worst-served groups or samples: group DRO, CVaR over groups and over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fairquant_paper.regularizers import check_weight
from torch import Tensor, nn

from fairquant.roles import Step


@dataclass(frozen=True)
class GroupDro:
    """weight * (sum_g q_g L_g - mean_g L_g), q_g <- q_g exp(eta L_g) normalized (Sagawa et al., arXiv 1911.08731).

    q is kept over the whole training. Groups that are missing from a batch keep their q and do not enter the penalty.
    """

    weight: float = 1.0
    eta: float = 0.01

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if self.eta < 0:
            raise ValueError(f"eta: must not be negative, got {self.eta!r}")

    def memory(self) -> nn.Module:
        """The group weights q [G], for any number of groups."""
        return _GroupWeights()

    def penalty(self, step: Step) -> Tensor:
        """The weighted group losses [G] above their mean, a scalar []. Updates q in step.memory."""
        losses, present = step.losses_by_group()
        memory = step.memory if isinstance(step.memory, _GroupWeights) else _GroupWeights()
        q = memory.update(losses.detach(), present, self.eta)
        weights = q[present] / q[present].sum().clamp_min(1e-12)
        return self.weight * ((weights * losses[present]).sum() - losses[present].mean())


class _GroupWeights(nn.Module):
    """log_q [G] float32, normalized after every update; empty until the first step gives the number of groups."""

    log_q: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_q", torch.zeros(0))

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *arguments: Any) -> None:
        """Take the number of groups from the checkpoint."""
        if (saved := state_dict.get(f"{prefix}log_q")) is not None:
            self.log_q = torch.zeros_like(saved, device=self.log_q.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def update(self, losses: Tensor, present: Tensor, eta: float) -> Tensor:
        """Multiply the weights of the groups that are present by exp(eta * loss): losses, present [G] -> normalized q [G]."""
        if not len(self.log_q):
            self.log_q = torch.zeros_like(losses, dtype=torch.float32)
        log_q = torch.where(present, self.log_q + eta * losses, self.log_q)
        self.log_q = (log_q - log_q.logsumexp(0)).to(self.log_q.dtype)
        return torch.softmax(log_q, 0)


@dataclass(frozen=True)
class CvarGroups:
    """weight * (mean of the worst ceil(alpha * present) group losses - mean of all group losses)."""

    weight: float = 1.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_level(self.alpha)

    def penalty(self, step: Step) -> Tensor:
        """The weighted difference of the means of the group losses [G], a scalar []."""
        losses = step.group_losses()
        worst = losses.sort(descending=True).values[: math.ceil(self.alpha * len(losses))]
        return self.weight * (worst.mean() - losses.mean())


@dataclass(frozen=True)
class CvarSamples:
    """weight * (mean of the worst ceil(alpha * B) losses - mean loss). Needs no group labels; 0 where alpha is 1.

    It is not 0 for one group: it concerns samples, whatever their groups.
    """

    weight: float = 1.0
    alpha: float = 0.3

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_level(self.alpha)

    @property
    def exempt(self) -> dict[str, str]:
        reason = "it concerns samples, whatever their groups"
        return {"one_group_costs_nothing": reason} if self.alpha < 1 else {}

    def penalty(self, step: Step) -> Tensor:
        """The weighted difference of the means of the losses [B], a scalar []."""
        worst = step.losses.topk(math.ceil(self.alpha * len(step.losses))).values
        return self.weight * (worst.mean() - step.losses.mean())


def check_level(alpha: float) -> None:
    """ValueError for a level outside (0, 1]."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: must be in (0, 1], got {alpha!r}")
