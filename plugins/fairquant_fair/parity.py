"""Regularizers on predictions and features: soft demographic parity, soft equalized odds, MMD of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from fairquant_paper.regularizers import check_weight
from torch import Tensor
from torch.nn import functional as F

from fairquant.roles import Step


def _spread(rates: Tensor, counted: Tensor) -> Tensor:
    """max - min over the groups that count, 0 where fewer than two do: rates, counted [G, ...] -> [...]."""
    high = torch.where(counted, rates, -torch.inf).amax(0)
    low = torch.where(counted, rates, torch.inf).amin(0)
    return torch.where(counted.sum(0) >= 2, high - low, torch.zeros_like(high))


@dataclass(frozen=True)
class SoftDemographicParity:
    """weight * mean over classes of max_g - min_g of the mean probability of the class in group g."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted mean over classes of the spreads [C], a scalar []."""
        member = F.one_hot(step.groups, step.group_count).to(step.logits.dtype)
        count = member.sum(0)
        means = member.T @ step.logits.softmax(1) / count.clamp_min(1)[:, None]  # [G, C]
        counted = (count > 0)[:, None].expand_as(means)
        return self.weight * _spread(means, counted).mean()


@dataclass(frozen=True)
class SoftEqualizedOdds:
    """weight * mean over classes c and y in {label is c, is not c} of the spread over groups of mean p(c | y, g)."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def penalty(self, step: Step) -> Tensor:
        """The weighted mean over outcomes and classes of the spreads [2, C], a scalar []."""
        probability = step.logits.softmax(1)
        member = F.one_hot(step.groups, step.group_count).to(probability.dtype)
        truth = F.one_hot(step.labels, probability.shape[1]).to(probability.dtype)
        gaps = []
        for outcome in (truth, 1 - truth):
            count = member.T @ outcome
            rate = member.T @ (outcome * probability) / count.clamp_min(1)  # [G, C]
            gaps.append(_spread(rate, count > 0))
        return self.weight * torch.stack(gaps).mean()


@dataclass(frozen=True)
class FeatureMmd:
    """weight * mean over pairs of groups of the squared maximum mean discrepancy of the penultimate features.

    Gaussian kernels at `scales` times the mean squared distance in the batch (Gretton et al., 2012; the biased estimate,
    which is never negative). Groups with fewer than two images in the batch are left out.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    weight: float = 0.1
    scales: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales: must be positive numbers, got {self.scales!r}")

    def penalty(self, step: Step) -> Tensor:
        """The weighted mean discrepancy of the features [B, D] between groups, a scalar []; 0 where fewer than two groups have
        two images."""
        assert step.features is not None
        features = step.features.flatten(1)
        squared = (features[:, None] - features[None]).square().sum(2)  # [B, B]
        width = squared.detach().mean().clamp_min(1e-12)
        kernel = torch.stack([torch.exp(-squared / (scale * width)) for scale in self.scales]).mean(0)
        member = F.one_hot(step.groups, step.group_count).to(kernel.dtype)
        weights = (member / member.sum(0).clamp_min(1))[:, member.sum(0) >= 2]  # [B, groups with two images]
        between = weights.T @ kernel @ weights
        within = between.diagonal()
        distance = within[:, None] + within[None] - 2 * between
        pairs = torch.triu(torch.ones_like(distance), 1).bool()
        return self.weight * distance[pairs].mean() if pairs.any() else step.losses.sum() * 0.0
