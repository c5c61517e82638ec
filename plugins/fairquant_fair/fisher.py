"""Fisher importance: the squared gradients of single images, by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from fairquant.bits import untouched
from fairquant.roles import Batch, GroupImportance, Layer
from fairquant_fair.row_norms import row_norms


@dataclass(frozen=True)
class Fisher:
    """I_g(u) = mean over images i of g of sum over the unit's weights of (dl_i/dW)^2, the empirical Fisher diagonal.

    One forward pass and one backward pass to the layers' outputs serve all groups: with a_i [n, T] the inputs that a
    layer saw for image i (T positions) and d_i [out, T] the loss's derivative at its outputs, the gradient is
    d_i a_i^T, and the squared norm of its row o is d_i[o] (a_i^T a_i) d_i[o]^T; per layer the cheaper form is taken.
    Modules that share a weight, and modules called more than once, count as one weight with more positions. A weight
    that is used without its module being called (attention's output projection in torch) is differentiated image by
    image.

    labels: "true", or "predicted": those the model believes in, its `classes` likeliest ones weighed by their probabilities,
    one pass each. With all classes this is the Fisher information itself, the Gauss-Newton diagonal: of use where the
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
        groups = len(group_names)
        totals = {layer.name: layer.weight.new_zeros((groups, layer.rows)) for layer in layers}
        seen = torch.zeros(groups)
        with untouched(model):
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for batch in batches:
                for weight, labelled in self._labelled(model, batch):
                    for layer, norms in zip(layers, row_norms(model, labelled, layers), strict=True):
                        totals[layer.name].index_add_(0, batch.groups, norms if weight is None else weight * norms)
                seen += torch.bincount(batch.groups.cpu(), minlength=groups)
        count = seen.clamp_min(1)[:, None]
        scores = {
            layer.name: layer.per_unit(totals[layer.name] / count.to(totals[layer.name].device)) for layer in layers
        }
        return GroupImportance(scores, group_names)

    def _labelled(self, model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor | None, Batch]]:
        """Batches with labels to differentiate the loss of, and the weight of each image's [B, 1], or None."""
        if self.labels == "true":
            yield None, batch
            return
        with torch.no_grad():
            shares = model(batch.images).softmax(1)
        likeliest = shares.topk(min(self.classes, shares.shape[1]), dim=1)
        for share, labels in zip(likeliest.values.T, likeliest.indices.T, strict=True):
            yield share[:, None], replace(batch, labels=labels)
