"""HAWQ: importance from the Hessian's diagonal, by Hutchinson's estimator, per group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairquant.bits import differentiable_weights
from fairquant.data.batching import regroup
from fairquant.roles import Batch, GroupImportance, Layer


@dataclass(frozen=True)
class Hawq:
    """I_g(u) = sum over the unit's weights of |mean_s v_s * (H_g v_s)| W^2, v_s random signs (FairQuant, arXiv 2602.23192).

    mean_s v_s * (H v_s) estimates the Hessian's diagonal without bias; H_g is that of the group's mean loss over its
    whole calibration set. The same v_s is used on every batch, so that batching does not matter. Takes `samples`
    second backward passes over every image. The scores contain the weights' magnitude (relative=True).
    """

    samples: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples: must be at least 1, got {self.samples!r}")

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer, relative to the weights' magnitude."""
        diagonals = self.diagonals(model, batches, layers, len(group_names))
        scores = {}
        for layer, diagonal in zip(layers, diagonals, strict=True):
            weighted = diagonal.abs() * layer.weight.detach().square()
            scores[layer.name] = layer.per_unit(weighted.flatten(2).sum(2))
        return GroupImportance(scores, group_names, relative=True)

    def diagonals(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], groups: int
    ) -> list[Tensor]:
        """Estimated diagonal of each group's Hessian, per layer [G, *weight.shape]."""
        sums = [layer.weight.new_zeros((groups, *layer.weight.shape)) for layer in layers]
        seen = torch.zeros(groups)
        # fused attention has no second derivative
        with differentiable_weights(model, layers) as weights, sdpa_kernel(SDPBackend.MATH):
            for group_batch in regroup(batches, groups):
                group = int(group_batch.groups[0])
                loss = F.cross_entropy(model(group_batch.images), group_batch.labels, reduction="sum")
                derivatives = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
                used = [number for number, derivative in enumerate(derivatives) if derivative is not None]
                for sample in range(self.samples):
                    signs = self._signs(weights, sample)
                    products = torch.autograd.grad(
                        [derivatives[number] for number in used],
                        weights,
                        grad_outputs=[signs[number] for number in used],
                        retain_graph=sample + 1 < self.samples,
                        allow_unused=True,
                    )
                    for total, sign, product in zip(sums, signs, products, strict=True):
                        if product is not None:
                            total[group] += sign * product
                seen[group] += len(group_batch.labels)
        for total in sums:
            total /= (self.samples * seen.clamp_min(1)).view(-1, *[1] * (total.dim() - 1)).to(total)
        return sums

    def _signs(self, weights: list[Tensor], sample: int) -> list[Tensor]:
        """Random signs of each weight's shape, the same for every batch, drawn without the global random state."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + sample)
        return [
            (torch.randint(0, 2, weight.shape, generator=draw) * 2 - 1).to(weight.device, weight.dtype)
            for weight in weights
        ]
