"""gradient and grape: first-order importance of every unit to every group, in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits import differentiable_weights
from fairquant.data.batching import regroup, split_by_group
from fairquant.roles import Batch, GroupImportance, Layer

Over = Literal["set", "batch"]


def group_gradients(
    model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], groups: int, over: Over, power: int
) -> tuple[list[list[Tensor | None]], list[int]]:
    """Per layer and group, the gradient of the group's summed loss in the form that its importance needs ([out, n] each,
    None for a group without images), and per group what that sum is to be divided by.

    over="set": L_g is the mean cross-entropy over all images of the group, so that batching does not matter. Images
    are re-batched by group as they stream past, hence every image is seen in exactly one forward and backward pass
    whatever the number of groups. power is then ignored: the gradient itself is returned.
    over="batch" (the paper): |dL_g/dW|^power of each batch's group loss, summed over batches.
    """
    sums: list[list[Tensor | None]] = [[None] * groups for _ in layers]
    seen = [0] * groups
    parts = regroup(batches, groups) if over == "set" else (part for batch in batches for part in split_by_group(batch))
    with differentiable_weights(model, layers) as weights:
        for part in parts:
            group, images = int(part.groups[0]), len(part.labels)
            loss = F.cross_entropy(model(part.images), part.labels, reduction="sum" if over == "set" else "mean")
            for by_group, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                gradient = gradient.flatten(1) if over == "set" else gradient.flatten(1).abs_().pow_(power)
                total = by_group[group]  # the first gradient is the sum so far: no zeros are written and added to
                by_group[group] = gradient if total is None else total.add_(gradient)
            seen[group] += images
    return sums, [max(images, 1) if over == "set" else 1 for images in seen]


def _per_unit(
    layer: Layer, by_group: list[Tensor | None], images: list[int], row_sums: Callable[[Tensor], Tensor], power: int
) -> Tensor:
    """Scores [G, units] from row_sums, a group's gradient [out, n] -> one number per row, homogeneous of degree power."""
    none = layer.weight.new_zeros(layer.rows)
    rows = [
        none if gradient is None else row_sums(gradient) / count**power
        for gradient, count in zip(by_group, images, strict=True)
    ]
    return layer.per_unit(torch.stack(rows).detach())


@dataclass(frozen=True)
class Gradient:
    """I_g(u) = sum over the unit's weights of |dL_g/dW|  (FairQuant paper; reference 1.1).

    over: "set" takes L_g over the group's whole calibration set and does not depend on batching. "batch" is the
    paper's sum over batches; it depends on them by definition and is exempt from that law.
    """

    over: Over = "set"

    @property
    def exempt(self) -> dict[str, str]:
        why = "the paper sums absolute batch gradients, so batches matter"
        return {"batches_do_not_matter": why} if self.over == "batch" else {}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        gradients, images = group_gradients(model, batches, layers, len(group_names), self.over, power=1)
        scores = {
            layer.name: _per_unit(layer, by_group, images, lambda gradient: gradient.abs_().sum(1), power=1)
            for layer, by_group in zip(layers, gradients, strict=True)
        }
        return GroupImportance(scores, group_names)


@dataclass(frozen=True)
class Grape:
    """I_g(u) = sum over the unit's weights of (W * dL_g/dW)^2  (FairGRAPE, arXiv 2207.10888).

    over: as for `gradient`. The scores contain the weights' magnitude (relative=True).
    """

    over: Over = "set"

    @property
    def exempt(self) -> dict[str, str]:
        why = "the paper sums squared batch gradients, so batches matter"
        return {"batches_do_not_matter": why} if self.over == "batch" else {}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        gradients, images = group_gradients(model, batches, layers, len(group_names), self.over, power=2)
        scores = {}
        for layer, by_group in zip(layers, gradients, strict=True):
            row_sums = partial(_products if self.over == "set" else _squares, layer.weight.detach().flatten(1))
            scores[layer.name] = _per_unit(layer, by_group, images, row_sums, power=2)
        return GroupImportance(scores, group_names, relative=True)


def _products(weight: Tensor, gradient: Tensor) -> Tensor:
    rows: Tensor = torch.linalg.vector_norm(gradient.mul_(weight), dim=1)
    return rows.square()


def _squares(weight: Tensor, squared_gradient: Tensor) -> Tensor:
    rows: Tensor = torch.linalg.vecdot(squared_gradient, weight.square(), dim=1)
    return rows
