"""runner: how much each unit affects the fairness gap itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from fairquant.bits import differentiable_weights, gradients
from fairquant.data.batching import regroup
from fairquant.roles import Batch, GroupImportance, Layer


@dataclass(frozen=True)
class Runner:
    """I(u) = sum over the unit's weights of (W * dGap/dW)^2, Gap = max_g L_g - min_g L_g.

    L_g is the mean cross-entropy over the group's whole calibration set; which groups are served best and worst is
    determined from all calibration images. Every group gets the same score. The scores contain the weights' magnitude
    (relative).
    """

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer, equal for all groups, relative to the weights' magnitude."""
        groups = len(group_names)
        sums = [layer.weight.new_zeros((groups, *layer.weight.shape)) for layer in layers]
        losses, seen = torch.zeros(groups, dtype=torch.float64), torch.zeros(groups)
        with differentiable_weights(model, layers) as weights:
            for group_batch in regroup(batches, groups):
                group = int(group_batch.groups[0])
                loss = F.cross_entropy(model(group_batch.images), group_batch.labels, reduction="sum")
                for total, gradient in zip(sums, gradients(loss, weights), strict=True):
                    total[group] += gradient
                losses[group] += float(loss.detach())
                seen[group] += len(group_batch.labels)
        present = torch.where(seen > 0)[0]
        means = losses[present] / seen[present]
        worst, best = int(present[means.argmax()]), int(present[means.argmin()])
        scores = {}
        for layer, total in zip(layers, sums, strict=True):
            gap_gradient = total[worst] / seen[worst] - total[best] / seen[best]
            rows = (gap_gradient * layer.weight.detach()).square().flatten(1).sum(1)
            scores[layer.name] = layer.per_unit(rows).expand(groups, -1).clone()
        return GroupImportance(scores, group_names, relative=True)
