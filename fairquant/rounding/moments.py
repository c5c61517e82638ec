"""What a layer sees of each group, summed over batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from fairquant.bits.products import Product
from fairquant.data.ranks import world_size
from fairquant.roles.rounding import LayerInputs

#: Places of an image that are looked at, drawn anew for each batch where there are more: neighbours see nearly the same.
PLACES = 128


@dataclass(eq=False)
class InputSums:
    """Sums that become `LayerInputs`. weights [G]: of positions; each position counts 1, or what the rounding weighs it with."""

    groups: int
    weights: Tensor | None = None
    images: Tensor | None = None
    moments: Tensor | None = None
    means: Tensor | None = None
    drift: Tensor | None = None
    drift_means: Tensor | None = None
    drift_outputs: Tensor | None = None
    draw: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def add(
        self, product: Product, groups: Tensor, full: Product | None = None, importance: Tensor | None = None
    ) -> bool:
        """groups [B]; full: the product in full precision; importance [B, P] or [B, 1]: of the positions, 1 where None. False, and
        nothing is added, where the inputs cannot be separated by image."""
        places, chosen = product.places(len(groups)), None
        if places is None:
            return False
        if places > PLACES:
            chosen = torch.randperm(places, generator=self.draw)[:PLACES].sort().values.to(groups.device)
        columns = product.columns(len(groups), chosen)
        other = None if full is None else full.columns(len(groups), chosen)
        assert columns is not None
        if importance is not None:
            importance = importance.expand(len(groups), places)
            importance = importance if chosen is None else importance[:, chosen]
        self._add(columns, groups, product.weight.flatten(1), other, importance)
        return True

    def _add(
        self, columns: Tensor, groups: Tensor, weight: Tensor, full: Tensor | None, importance: Tensor | None
    ) -> None:
        """columns, full [B, P, S, n]; weight [R, n]."""
        if self.moments is None:
            self._allocate(columns, len(weight), full is not None)
        assert (
            self.moments is not None and self.means is not None and self.images is not None and self.weights is not None
        )
        self.images += torch.bincount(groups, minlength=self.groups).to(self.images)
        for group in torch.unique(groups).tolist():
            chosen = groups == group
            x = columns[chosen].flatten(0, 1).transpose(0, 1)  # [S, positions, n]
            share = x.new_ones(x.shape[1]) if importance is None else importance[chosen].flatten().to(x)
            weighted = x if importance is None else x * share[None, :, None]
            self.weights[group] += share.sum()
            self.moments[group] += weighted.transpose(1, 2) @ x
            self.means[group] += weighted.sum(1)
            if full is not None:
                self._add_drift(group, full[chosen].flatten(0, 1).transpose(0, 1) - x, weighted, share, weight)

    def _add_drift(self, group: int, moved: Tensor, weighted: Tensor, share: Tensor, weight: Tensor) -> None:
        """moved [S, positions, n]: inputs in full precision less those that the layer sees."""
        assert self.drift is not None and self.drift_means is not None and self.drift_outputs is not None
        self.drift[group] += moved.transpose(1, 2) @ weighted
        self.drift_means[group] += share @ moved
        rows = weight.view(len(moved), -1, weight.shape[1])  # [S, R / S, n]
        outputs = moved @ rows.transpose(1, 2).to(moved)
        self.drift_outputs[group] += (outputs.square() * share[None, :, None]).sum(1).flatten()

    def _allocate(self, columns: Tensor, rows: int, drift: bool) -> None:
        slices, width = columns.shape[2:]
        zeros = columns.new_zeros
        self.weights, self.images = zeros(self.groups), zeros(self.groups)
        self.moments, self.means = zeros(self.groups, slices, width, width), zeros(self.groups, slices, width)
        if drift:
            self.drift, self.drift_means = torch.zeros_like(self.moments), torch.zeros_like(self.means)
            self.drift_outputs = zeros(self.groups, rows)

    def result(self) -> LayerInputs | None:
        """Means over positions, of all ranks together; None where nothing was added."""
        if self.moments is None:
            return None
        assert self.weights is not None and self.means is not None and self.images is not None
        if world_size() > 1:
            for value in (
                self.weights,
                self.images,
                self.moments,
                self.means,
                self.drift,
                self.drift_means,
                self.drift_outputs,
            ):
                if value is not None:
                    dist.all_reduce(value)
        weights = self.weights.clamp_min(1e-30)

        def mean(total: Tensor | None) -> Tensor | None:
            return None if total is None else total / weights.view(-1, *[1] * (total.dim() - 1))

        return LayerInputs(
            moments=self.moments / weights[:, None, None, None], means=self.means / weights[:, None, None], images=self.images,
            drift=mean(self.drift), drift_means=mean(self.drift_means), drift_outputs=mean(self.drift_outputs),
        )  # fmt: skip
