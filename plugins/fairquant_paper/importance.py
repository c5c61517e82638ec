"""gradient and grape: first-order importance of every unit to every group, in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits import differentiable_weights, gradients
from fairquant.data.batching import regroup, split_by_group
from fairquant.roles import Batch, GroupImportance, Layer

Over = Literal["set", "batch"]


def group_gradients(
    model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], groups: int, over: Over, power: int
) -> tuple[list[list[Tensor | None]], list[int]]:
    """Gradients of the group losses with respect to the weights, and the divisor of each group.

    Returns, per layer and group, the gradient of the group's summed loss in the form that the importance needs ([out, n]
    each, None for a group without images), and per group the number that this sum is to be divided by.

    over="set": L_g is the mean cross-entropy over all images of the group, so that batching does not matter. Images
    are re-batched by group as they stream past, so every image is used in exactly one forward and backward pass
    whatever the number of groups. power is then ignored: the gradient itself is returned.
    over="batch" (the paper): |dL_g/dW|^power of each batch's group loss, summed over batches.
    """
    sums: list[list[Tensor | None]] = [[None] * groups for _ in layers]
    seen = [0] * groups
    if over == "set":
        stream, reduction = regroup(batches, groups), "sum"
    else:
        stream, reduction = (part for batch in batches for part in split_by_group(batch)), "mean"
    with differentiable_weights(model, layers) as weights:
        for group_batch in stream:
            group = int(group_batch.groups[0])
            loss = F.cross_entropy(model(group_batch.images), group_batch.labels, reduction=reduction)
            for by_group, gradient in zip(sums, gradients(loss, weights), strict=True):
                gradient = gradient.flatten(1) if over == "set" else gradient.flatten(1).abs_().pow_(power)
                total = by_group[group]  # the first gradient becomes the sum, which saves allocating zeros
                by_group[group] = gradient if total is None else total.add_(gradient)
            seen[group] += len(group_batch.labels)
    return sums, [max(images, 1) if over == "set" else 1 for images in seen]


def _per_unit(
    layer: Layer, by_group: list[Tensor | None], divisors: list[int], row_sums: Callable[[Tensor], Tensor], power: int
) -> Tensor:
    """Scores [G, U]. by_group: each group's gradient [out, n]; row_sums: gradient [out, n] -> [out], homogeneous of degree
    `power`."""
    zeros = layer.weight.new_zeros(layer.rows)
    rows = [
        zeros if gradient is None else row_sums(gradient) / divisor**power
        for gradient, divisor in zip(by_group, divisors, strict=True)
    ]
    return layer.per_unit(torch.stack(rows).detach())


@dataclass(frozen=True)
class Gradient:
    """I_g(u) = sum over the unit's weights of |dL_g/dW|  (FairQuant, arXiv 2602.23192).

    over: "set" takes L_g over the group's whole calibration set and does not depend on batching. "batch" is the
    paper's sum over batches; it depends on them by definition and is exempt from that law.
    """

    over: Over = "set"

    @property
    def exempt(self) -> dict[str, str]:
        reason = "the paper sums absolute batch gradients, so batches matter"
        return {"batches_do_not_matter": reason} if self.over == "batch" else {}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer."""
        gradients, divisors = group_gradients(model, batches, layers, len(group_names), self.over, power=1)
        scores = {
            layer.name: _per_unit(layer, by_group, divisors, lambda gradient: gradient.abs_().sum(1), power=1)
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
        reason = "the paper sums squared batch gradients, so batches matter"
        return {"batches_do_not_matter": reason} if self.over == "batch" else {}

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer, relative to the weights' magnitude."""
        gradients, divisors = group_gradients(model, batches, layers, len(group_names), self.over, power=2)
        scores = {}
        for layer, by_group in zip(layers, gradients, strict=True):
            row_sums = partial(_products if self.over == "set" else _squares, layer.weight.detach().flatten(1))
            scores[layer.name] = _per_unit(layer, by_group, divisors, row_sums, power=2)
        return GroupImportance(scores, group_names, relative=True)


def _products(weight: Tensor, gradient: Tensor) -> Tensor:
    """sum_j (w_j g_j)^2 of each row: weight, gradient [out, n] -> [out]; overwrites the gradient."""
    rows: Tensor = torch.linalg.vector_norm(gradient.mul_(weight), dim=1)
    return rows.square()


def _squares(weight: Tensor, squared_gradient: Tensor) -> Tensor:
    """sum_j w_j^2 (g^2)_j of each row: weight, squared_gradient [out, n] -> [out]."""
    rows: Tensor = torch.linalg.vecdot(squared_gradient, weight.square(), dim=1)
    return rows
