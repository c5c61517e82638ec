"""Fisher importance: squared gradients of single images by group, and along the quantization error of each width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from fairquant.bits import untouched
from fairquant.roles import Batch, GroupImportance, Layer
from fairquant_fair.image_gradients import reduce_gradients
from fairquant_fair.reductions import Products, Reduction, SquaredNorms


@dataclass(frozen=True)
class Fisher:
    """I_g(u) = mean over images i of g of sum over the unit's weights of (dl_i/dW)^2, the empirical Fisher diagonal.

    One forward pass and one backward pass to the layers' outputs serve all groups: with a_i [n, T] the inputs of a
    layer for image i (T positions) and d_i [out, T] the loss's derivative at its outputs, the gradient is
    d_i a_i^T, and the squared norm of its row o is d_i[o] (a_i^T a_i) d_i[o]^T; per layer the cheaper form is used.
    Modules that share a weight, and modules called more than once, count as one weight with more positions. A weight
    that is used in another way than in products of its own (attention's input projection in torch) is differentiated image by
    image.

    labels: "true", or "predicted": the model's `classes` most probable labels, weighted by their probabilities,
    one pass each. With all classes this is the Fisher information itself, the Gauss-Newton diagonal: useful where the
    calibration images are fitted so well that their own gradients vanish (Kunstner et al., arXiv 1905.12558).
    """

    labels: Literal["true", "predicted"] = "true"
    classes: int = 4

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes: must be at least 1, got {self.classes!r}")

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer."""
        reductions = [SquaredNorms() for _ in layers]
        tables = self._mean_by_group(model, batches, layers, len(group_names), reductions, Layer.per_unit)
        return GroupImportance({layer.name: table for layer, table in zip(layers, tables, strict=True)}, group_names)

    def _mean_by_group(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], groups: int,
        reductions: Sequence[Reduction], of_image: Callable[[Layer, Tensor], Tensor],
    ) -> list[Tensor]:  # fmt: skip
        """Per layer, the mean over each group's images of `of_image` applied to the layer's reduction [B, out, ...]:
        [G, ...]."""
        totals: list[Tensor | None] = [None] * len(layers)
        seen = torch.zeros(groups)
        with untouched(model):
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for batch in batches:
                for weight, labelled in self._labelled(model, batch):
                    for number, reduced in enumerate(reduce_gradients(model, labelled, layers, reductions)):
                        values = of_image(layers[number], reduced)
                        if weight is not None:
                            values = values * weight.view(-1, *[1] * (values.dim() - 1))
                        total = totals[number]
                        total = values.new_zeros((groups, *values.shape[1:])) if total is None else total
                        totals[number] = total.index_add_(0, batch.groups, values)
                seen += torch.bincount(batch.groups.cpu(), minlength=groups)
        measured = [total for total in totals if total is not None]
        return [t / seen.clamp_min(1).to(t.device).view(-1, *[1] * (t.dim() - 1)) for t in measured]

    def _labelled(self, model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor | None, Batch]]:
        """Batches with the labels of the loss to differentiate, and the weight of each image [B], or None for 1."""
        if self.labels == "true":
            yield None, batch
            return
        with torch.no_grad():
            probabilities = model(batch.images).softmax(1)
        likeliest = probabilities.topk(min(self.classes, probabilities.shape[1]), dim=1)
        for probability, labels in zip(likeliest.values.T, likeliest.indices.T, strict=True):
            yield probability, replace(batch, labels=labels)


@dataclass(frozen=True)
class BlockFisher(Fisher):
    """`fisher`, and for allocators the effect of each width on each group: e_{u,g}(b) = mean over images i of g of
    <dl_i/dW_u, Q_b(W_u) - W_u>^2, the empirical Fisher of a unit's weights together along the actual error of each width.

    `fisher` assumes that the errors of the weights are uncorrelated and equal; those of a pruned channel are neither. The
    block of a unit in the Fisher matrix is what second-order pruning uses per block (Singh & Alistarh, WoodFisher, arXiv
    2004.14340); because the error is known, not modelled, its quadratic form is a product of two vectors for each image.
    While it is measured, the errors take K times the memory of the weights.
    """

    def group_errors(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...],
        errors: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:  # fmt: skip
        """errors [K, *weight.shape] of each layer -> e_{u,g}(b) [G, U, K] of each layer."""
        reductions = [Products(errors[layer.name]) for layer in layers]
        tables = self._mean_by_group(model, batches, layers, len(group_names), reductions, _squared_by_unit)
        return {layer.name: table for layer, table in zip(layers, tables, strict=True)}

    def measure_jointly(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...],
        errors: Mapping[str, Tensor],
    ) -> tuple[GroupImportance, dict[str, Tensor]]:  # fmt: skip
        """Scores [G, U] and e_{u,g}(b) [G, U, K] of each layer."""
        reductions = [Products(errors[layer.name], norms=True) for layer in layers]
        tables = self._mean_by_group(model, batches, layers, len(group_names), reductions, _both_by_unit)
        named = dict(zip((layer.name for layer in layers), tables, strict=True))
        scores = {name: table[..., 0] for name, table in named.items()}
        return GroupImportance(scores, group_names), {name: table[..., 1:] for name, table in named.items()}


def _both_by_unit(layer: Layer, reduced: Tensor) -> Tensor:
    """[B, out, 1 + K] -> [B, U, 1 + K]: squared norms of the rows first, then their products with K changes."""
    return torch.cat([layer.per_unit(reduced[..., 0])[..., None], _squared_by_unit(layer, reduced[..., 1:])], -1)


def _squared_by_unit(layer: Layer, products: Tensor) -> Tensor:
    """[B, out, K] -> [B, U, K]: the sum of the products of a unit's rows, squared."""
    return layer.per_unit(products.transpose(1, 2)).square().transpose(1, 2)
