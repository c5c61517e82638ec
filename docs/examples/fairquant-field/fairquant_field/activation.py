"""Importance without a gradient: how large is what a weight multiplies?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.data.batching import regroup
from fairquant.roles import Batch, GroupImportance, Layer


@dataclass(frozen=True)
class Activation:
    """I_g(u) = sum over the unit's weights of W_ij^2 * mean over group g of x_j^2, x_j the input that W_ij multiplies.

    The squared score of Wanda (Sun et al., arXiv 2306.11695), per group. One forward pass, no backward.
    """

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], layers: tuple[Layer, ...], group_names: tuple[str, ...]
    ) -> GroupImportance:
        energy: dict[tuple[str, int], Tensor] = {}
        seen = torch.zeros(len(group_names))
        group = 0

        def watch(name: str) -> Any:
            def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
                x = given[0].flatten(2).square().mean(2) if isinstance(module, nn.Conv2d) else given[0].square()
                total = x.reshape(-1, x.shape[-1]).sum(0) * (len(given[0]) / max(x.numel() // x.shape[-1], 1))
                energy[name, group] = energy.get((name, group), 0) + total

            return hook

        hooks = [m.register_forward_pre_hook(watch(layer.name)) for layer in layers for m in layer.modules]
        try:
            with untouched(model), torch.no_grad():
                for group_batch in regroup(batches, len(group_names)):
                    group = int(group_batch.groups[0])
                    seen[group] += len(group_batch.labels)
                    model(group_batch.images)
        finally:
            for handle in hooks:
                handle.remove()
        scores = {}
        for layer in layers:
            weight = (
                layer.weight.detach().flatten(2).square().sum(2)
                if layer.weight.ndim > 2
                else layer.weight.detach().square()
            )
            rows = []
            for g in range(len(group_names)):
                total = energy.get((layer.name, g))
                if total is None:
                    rows.append(weight.new_zeros(len(weight)))
                    continue
                per_input = total / seen[g].to(total)
                blocks = len(per_input) // weight.shape[1]  # grouped convolutions: each row sees its own inputs
                own = per_input.view(blocks, -1).repeat_interleave(len(weight) // blocks, 0)
                rows.append((weight * own).sum(1))
            scores[layer.name] = layer.per_unit(torch.stack(rows))
        return GroupImportance(scores, group_names, relative=True)
