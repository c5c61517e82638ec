"""Ask the network itself what a plan costs each group, without touching it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.layers import untouched
from fairquant.roles import Batch, Layer, Quantizer


@dataclass(frozen=True)
class LossProbe:
    """Group losses [G] at bits [U] (-1: full precision), over fixed calibration batches.

    Quantized rows are kept, so that plans that differ in few units cost little more than a forward pass.
    """

    model: nn.Module
    layers: tuple[Layer, ...]
    quantizer: Quantizer
    batches: Callable[[], Iterable[Batch]]
    groups: int
    _rows: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def __call__(self, bits: Tensor) -> Tensor:
        kept = [layer.weight.detach().clone() for layer in self.layers]
        with untouched(self.model), torch.no_grad():
            try:
                parts = torch.split(bits.cpu().to(torch.int64), [layer.units for layer in self.layers])
                for number, (layer, part) in enumerate(zip(self.layers, parts, strict=True)):
                    layer.weight.copy_(self._quantized(number, layer, part, kept[number]))
                return self._losses()
            finally:
                for layer, weight in zip(self.layers, kept, strict=True):
                    layer.weight.copy_(weight)

    def _quantized(self, number: int, layer: Layer, bits: Tensor, weight: Tensor) -> Tensor:
        out = weight.flatten(1).clone()
        rows = bits.expand(layer.rows) if layer.unit == "tensor" else bits
        for width in torch.unique(bits).tolist():
            if width < 0:
                continue
            if (number, width) not in self._rows:
                built = self.quantizer.build(weight, torch.full((layer.units,), width), (width,))
                self._rows[number, width] = built.to(weight.device).eval()(weight).flatten(1)
            chosen = (rows == width).to(weight.device)
            out[chosen] = self._rows[number, width][chosen]
        return out.view_as(weight)

    def _losses(self) -> Tensor:
        sums, counts = torch.zeros(self.groups, dtype=torch.float64), torch.zeros(self.groups, dtype=torch.float64)
        for batch in self.batches():
            losses = F.cross_entropy(self.model(batch.images).float(), batch.labels, reduction="none").double().cpu()
            groups = batch.groups.cpu()
            sums.index_add_(0, groups, losses)
            counts.index_add_(0, groups, torch.ones_like(losses))
        return torch.where(counts > 0, sums / counts.clamp_min(1), torch.nan)
