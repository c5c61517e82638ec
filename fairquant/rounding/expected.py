"""What each width will cost once the rounding has compensated: the errors that an allocator spends the budget by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.bits.products import Product, Products, find_sequence_first
from fairquant.roles import Batch, Layer, Quantizer
from fairquant.rounding.compensate import compensate
from fairquant.rounding.levels import Levels, levels_of
from fairquant.rounding.moments import InputSums


def observe(network: nn.Module, layers: tuple[Layer, ...], batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Second moments [S, n, n] of the inputs of every layer in full precision, each group counting alike; one pass. Layers whose
    products cannot be observed are left out."""
    sums = [InputSums(1) for _ in layers]
    hidden: set[int] = set()
    tokens: frozenset[int] | None = None
    with untouched(network), torch.no_grad():
        for batch in batches:
            tokens = find_sequence_first(network, batch.images, layers) if tokens is None else tokens
            counts = torch.bincount(batch.groups)
            share = (1 / counts.clamp_min(1))[batch.groups]

            def add(product: Product, batch: Batch = batch, share: Tensor = share) -> None:
                everyone = torch.zeros_like(batch.groups)
                if not sums[product.number].add(product, everyone, importance=share[:, None]):
                    hidden.add(product.number)

            with Products(layers, add, sequence_first=tokens):
                network(batch.images)
    found = {
        layer.name: each.result()
        for number, (layer, each) in enumerate(zip(layers, sums, strict=True))
        if number not in hidden
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
