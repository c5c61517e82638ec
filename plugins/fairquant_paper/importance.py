"""gradient and grape: first-order importance of every unit to every group, in one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits import untouched
from fairquant.data.batching import regroup, split_by_group
from fairquant.roles import Batch, GroupImportance, Layer

Over = Literal["set", "batch"]


def group_gradients(
    model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], groups: int, over: Over, power: int
) -> list[Tensor]:
    """Per layer and group, the gradient of the group's loss in the form that its importance needs: [G, out, n] each.

    over="set": L_g is the mean cross-entropy over all images of the group, so that batching does not matter. Images
    are re-batched by group as they stream past, hence every image is seen in exactly one forward and backward pass
    whatever the number of groups. power is then ignored: the gradient itself is returned.
    over="batch" (the paper): |dL_g/dW|^power of each batch's group loss, summed over batches.
    """
    weights = [layer.weight for layer in layers]
    sums = [weight.new_zeros((groups, *weight.shape)) for weight in weights]
    seen = [0] * groups
    parts = regroup(batches, groups) if over == "set" else (part for batch in batches for part in split_by_group(batch))
    with untouched(model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        for part in parts:
            group, images = int(part.groups[0]), len(part.labels)
            loss = F.cross_entropy(model(part.images), part.labels, reduction="sum" if over == "set" else "mean")
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                total[group].add_(gradient if over == "set" else gradient.abs_().pow_(power))
            seen[group] += images
    if over == "set":
        for total in sums:
            for group, images in enumerate(seen):
                total[group].div_(max(images, 1))
    return [total.flatten(2) for total in sums]


@dataclass(frozen=True)
class Gradient:
    """I_g(u) = sum over the unit's weights of |dL_g/dW|  (FairQuant paper; reference 1.1).

    over: "set" takes L_g over the group's whole calibration set and does not depend on batching. "batch" is the
    paper's sum over batches; it depends on them by definition and is exempt from that law.
    """

    over: Over = "set"
    exempt: ClassVar[dict[str, str]] = {"over=batch": "the paper sums absolute batch gradients, so batches matter"}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        gradients = group_gradients(model, batches, layers, len(group_names), self.over, power=1)
        scores = {
            layer.name: layer.per_unit(gradient.abs_().sum(2))
            for layer, gradient in zip(layers, gradients, strict=True)
        }
        return GroupImportance(scores, group_names)


@dataclass(frozen=True)
class Grape:
    """I_g(u) = sum over the unit's weights of (W * dL_g/dW)^2  (FairGRAPE, arXiv 2207.10888).

    over: as for `gradient`. The scores contain the weights' magnitude (relative=True).
    """

    over: Over = "set"
    exempt: ClassVar[dict[str, str]] = {"over=batch": "the paper sums squared batch gradients, so batches matter"}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        gradients = group_gradients(model, batches, layers, len(group_names), self.over, power=2)
        scores = {}
        for layer, gradient in zip(layers, gradients, strict=True):
            squared = gradient.square_() if self.over == "set" else gradient
            rows = (squared * layer.weight.detach().flatten(1).square()).sum(2)
            scores[layer.name] = layer.per_unit(rows)
        return GroupImportance(scores, group_names, relative=True)
