"""Importance without gradients: the magnitude of the inputs that a weight multiplies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.data.batching import regroup
from fairquant.roles import Batch, GroupImportance, Layer


@dataclass(frozen=True)
class Activation:
    """I_g(u) = sum over the unit's weights of W_ij^2 * mean over group g of x_j^2, x_j the input that W_ij multiplies.

    The squared score of Wanda (Sun et al., arXiv 2306.11695), per group. One forward pass, no backward pass.
    """

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        """Scores [G, U] of each layer, relative to the weights' magnitude."""
        energy: dict[tuple[str, int], Tensor] = {}  # (layer, group) -> sum over the group's images of x_j^2 [inputs]
        seen = torch.zeros(len(group_names))
        group = 0

        def add_energy(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(2).square().mean(2) if isinstance(module, nn.Conv2d) else inputs[0].square()
            total = x.reshape(-1, x.shape[-1]).sum(0) * (len(inputs[0]) / max(x.numel() // x.shape[-1], 1))
            energy[name, group] = energy.get((name, group), 0) + total

        handles = [
            module.register_forward_pre_hook(partial(add_energy, layer.name))
            for layer in layers
            for module in layer.modules
        ]
        try:
            with untouched(model), torch.no_grad():
                for group_batch in regroup(batches, len(group_names)):
                    group = int(group_batch.groups[0])
                    seen[group] += len(group_batch.labels)
                    model(group_batch.images)
        finally:
            for handle in handles:
                handle.remove()
        scores = {}
        for layer in layers:
            means = [
                None if (total := energy.get((layer.name, g))) is None else total / seen[g].to(total)
                for g in range(len(group_names))
            ]
            scores[layer.name] = layer.per_unit(_row_scores(layer.weight.detach(), means))
        return GroupImportance(scores, group_names, relative=True)


def _row_scores(weight: Tensor, means: list[Tensor | None]) -> Tensor:
    """sum_j W_ij^2 mean(x_j^2) of each group and row: weight [out, in, ...], means [inputs] or None per group -> [G, out]."""
    squared = weight.flatten(2).square().sum(2) if weight.ndim > 2 else weight.square()
    rows = []
    for mean in means:
        if mean is None:  # a group without images, or a layer that was not called
            rows.append(squared.new_zeros(len(squared)))
            continue
        blocks = len(mean) // squared.shape[1]  # grouped convolutions: each row has its own inputs
        per_row = mean.view(blocks, -1).repeat_interleave(len(squared) // blocks, 0)
        rows.append((squared * per_row).sum(1))
    return torch.stack(rows)
