"""What each width will cost once the rounding has compensated: the errors that an allocator spends the budget by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.bits.products import Product, Products
from fairquant.roles import Batch, Layer, Quantizer
from fairquant.rounding.compensate import compensate
from fairquant.rounding.levels import Levels, levels_of
from fairquant.rounding.moments import InputSums


class InputMoments:
    """Second moments of the inputs of every layer in full precision, each group counting alike.

    A batch that something else passes through the network is observed on its way (`watching`), which saves a pass.
    """

    def __init__(self, network: nn.Module, layers: tuple[Layer, ...]) -> None:
        self.network, self.layers = network, layers
        self._forget()

    def _forget(self) -> None:
        self._sums = [InputSums(1) for _ in self.layers]
        self._versions = [layer.weight._version for layer in self.layers]
        self._hidden: set[int] = set()  # layers whose inputs cannot be separated by image
        self._seen: set[int] = set()  # batches
        self._batch: tuple[int, Batch] | None = None
        self._passing = self._complete = False

    @contextmanager
    def watching(self, batches: Iterable[Batch]) -> Iterator[Iterator[Batch]]:
        """Gives the batches, in their order; the first forward pass of the network with the images of each is observed."""
        before = self.network.register_forward_pre_hook(self._enter)
        after = self.network.register_forward_hook(self._leave)
        try:
            with Products(self.layers, self._add):
                yield self._numbered(batches)
        finally:
            before.remove()
            after.remove()
            self._batch = None

    def _numbered(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        number = -1
        for number, batch in enumerate(batches):
            self._batch = number, batch
            yield batch
        self._complete = len(self._seen) == number + 1

    def _enter(self, module: nn.Module, arguments: tuple[object, ...]) -> None:
        """Nothing is observed of a copy of the network, which has its hooks, nor while it trains or its weights are others."""
        if module is self.network and self._batch is not None and len(arguments) == 1:
            number, batch = self._batch
            as_it_was = not self.network.training and self._versions == [layer.weight._version for layer in self.layers]
            self._passing = arguments[0] is batch.images and number not in self._seen and as_it_was

    def _leave(self, module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
        if self._passing and module is self.network and self._batch is not None:
            self._seen.add(self._batch[0])
            self._passing = False

    def _add(self, product: Product) -> None:
        if not self._passing or self._batch is None:
            return
        groups = self._batch[1].groups
        share = (1 / torch.bincount(groups).clamp_min(1))[groups]
        if not self._sums[product.number].add(product, torch.zeros_like(groups), importance=share[:, None]):
            self._hidden.add(product.number)

    def result(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Layer -> moments [S, n, n]. In a pass of its own where not every batch was observed, or not every layer, in whose place
        other weights may have stood. Layers whose products cannot be observed are left out."""
        layers = {number for number, each in enumerate(self._sums) if each.moments is not None} | self._hidden
        if not self._complete or len(layers) < len(self.layers):
            self._forget()
            with untouched(self.network), torch.no_grad(), self.watching(batches) as stream:
                for batch in stream:
                    self.network(batch.images)
        found = {
            layer.name: each.result()
            for number, (layer, each) in enumerate(zip(self.layers, self._sums, strict=True))
            if number not in self._hidden
        }
        return {name: inputs.moments[0].cpu() for name, inputs in found.items() if inputs is not None}


def compensated_errors(layer: Layer, quantizer: Quantizer, widths: tuple[int, ...], moments: Tensor | None) -> Tensor:
    """Q_b(W) - W at each of K widths [K, *weight.shape], after compensation (GPTQ, without regard to groups); to the nearest where
    the layer's inputs are not known. moments [S, n, n]."""
    weight = layer.weight.detach()
    grids = []
    for bits in widths:
        built = quantizer.build(weight, torch.full((layer.units,), bits, dtype=torch.int64), (bits,)).to(weight.device)
        grids.append(built.eval().encode(weight))
    if moments is None:
        return torch.stack([grid.decode() - weight for grid in grids])
    rows = weight.flatten(1)
    levels, step = [levels_of(grid) for grid in grids], len(rows) // len(moments)
    found = []
    for number in range(len(moments)):
        part = slice(number * step, (number + 1) * step)
        stacked = _stack([each.rows(part) for each in levels])
        target = rows[part].repeat(len(widths), 1)
        numbers = compensate(target, moments[number].to(target), stacked)
        found.append((stacked.values(numbers) - target).view(len(widths), step, -1))
    return torch.cat(found, 1).reshape(len(widths), *weight.shape).to(weight)


def _stack(levels: list[Levels]) -> Levels:
    """The grids of several widths below each other."""
    most = max(each.unit.shape[1] for each in levels)
    units = [torch.cat([each.unit, each.unit[:, -1:].expand(-1, most - each.unit.shape[1])], 1) for each in levels]
    grids = [each.grid for each in levels]
    shifts = [grid.shift for grid in grids if grid.shift is not None]
    grid = replace(
        grids[0], codes=torch.cat([grid.codes for grid in grids]), bits=torch.cat([grid.bits for grid in grids]),
        scale=torch.cat([grid.scale for grid in grids]), shift=torch.cat(shifts) if shifts else None,
        shape=(sum(len(grid.bits) for grid in grids), grids[0].codes.shape[1]),
    )  # fmt: skip
    return Levels(grid, torch.cat(units))


def errors_of_all(
    layers: tuple[Layer, ...], quantizer: Quantizer, widths: tuple[int, ...], moments: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Layer -> its errors at every width [K, *weight.shape]."""
    return {layer.name: compensated_errors(layer, quantizer, widths, moments.get(layer.name)) for layer in layers}
