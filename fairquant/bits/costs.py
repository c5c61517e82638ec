"""Budgets that are not of bits: bit operations, latency, and the size of the file.

Bit operations (BOPs) of a layer are its multiply-accumulates times the bits of its weights times the bits of its
activations. A weight takes part in one multiply-accumulate for each place of the output that its channel is computed at:
positions of a convolution, tokens of a linear layer; groups are in the weight's own shape. Products of two activations
(attention) and layers in full precision count with 32 bits on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fairquant.bits.multiplications import count_multiplications
from fairquant.errors import UserError
from fairquant.roles.allocator import Allocation, BitPlan
from fairquant.roles.importance import Layer

FLOAT = 32


class CostModel(Protocol):
    """A budget that is not of bits."""

    @property
    def limit(self) -> float:
        """What all units may cost together."""
        ...

    def unit_cost(self, layer: Layer, bits: int) -> float:
        """What one unit of the layer costs at these bits."""
        ...

    def bit_cost(self, layer: Layer) -> float:
        """The weight of one unit's bits in the average that constrains learned bits."""
        ...

    def average_bits(self, layers: tuple[Layer, ...], plan: BitPlan | None = None) -> float:
        """Average bits, weighted by their cost, that the budget corresponds to; plan: a plan within it."""
        ...


@dataclass(frozen=True)
class BitOperations:
    """per_weight: layer name -> bit operations that one bit of one weight costs: exactly proportional to the bits."""

    per_weight: Mapping[str, float]
    limit: float

    def unit_cost(self, layer: Layer, bits: int) -> float:
        return bits * self.bit_cost(layer)

    def bit_cost(self, layer: Layer) -> float:
        return float(self.per_weight[layer.name] * layer.unit_size)

    def average_bits(self, layers: tuple[Layer, ...], plan: BitPlan | None = None) -> float:
        return self.limit / sum(self.bit_cost(layer) * layer.units for layer in layers)


@dataclass(frozen=True)
class Latency:
    """milliseconds: layer name -> bits 0 to 8 -> of the whole layer, which is one unit; not proportional to the bits. The
    bits themselves constrain learned bits: the average of the plan, and the table again when they are projected."""

    milliseconds: Mapping[str, Sequence[float]]
    limit: float

    def unit_cost(self, layer: Layer, bits: int) -> float:
        return self.milliseconds[layer.name][bits]

    def bit_cost(self, layer: Layer) -> float:
        return float(layer.unit_size)

    def average_bits(self, layers: tuple[Layer, ...], plan: BitPlan | None = None) -> float:
        return 8.0 if plan is None else plan.average

    def of(self, plan: BitPlan) -> float:
        """Milliseconds of all layers."""
        return sum(self.milliseconds[name][int(bits[0])] for name, bits in plan.bits.items())


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of one image. positions: layer -> how often each of its weights is used, on average; other: those outside
    the quantized layers (attention's products, layers kept in full precision); parameters: all that are multiplied with."""

    positions: Mapping[str, float]
    other: int
    parameters: frozenset[str] = frozenset()

    def bops(self, plan: BitPlan, activations: Mapping[str, int]) -> int:
        """Bit operations of one image; activations: layer -> bits of its input, 32 where it is not named."""
        layers = sum(
            int(bits.sum()) * plan.unit_sizes[name] * self.positions[name] * activations.get(name, FLOAT)
            for name, bits in plan.bits.items()
        )
        return round(layers) + self.other * FLOAT * FLOAT

    def full(self, plan: BitPlan) -> int:
        """Bit operations in full precision."""
        layers = sum(len(bits) * plan.unit_sizes[name] * self.positions[name] for name, bits in plan.bits.items())
        return round((layers + self.other) * FLOAT * FLOAT)

    def cost_model(self, bops: float, activations: Mapping[str, int]) -> BitOperations:
        """The budget that remains for the layers. UserError where nothing remains."""
        left = bops - self.other * FLOAT * FLOAT
        if unknown := [name for name, positions in self.positions.items() if not positions]:
            raise UserError(
                f"budget.bops: no multiplication by {', '.join(unknown[:5])} could be counted: the layer is not used, is looked "
                "up, or is of a kind whose operations are not known. Leave it out with quantize.keep, or give budget.average_bits"
            )
        if left <= 0:
            raise UserError(
                f"budget.bops: {bops:.3g} is below the {self.other * FLOAT * FLOAT:.3g} of what stays in full precision "
                "(products of activations, layers in quantize.keep)"
            )
        return BitOperations({name: n * activations.get(name, FLOAT) for name, n in self.positions.items()}, left)


def count_operations(network: nn.Module, layers: tuple[Layer, ...], image: Tensor) -> Operations:
    """image [1, 3, H, W], as the network takes it."""
    counts, total = count_multiplications(network, image, layers)
    own = {layer.name: sum(counts.get(path, 0) for path in layer.parameters) for layer in layers}
    positions = {layer.name: own[layer.name] / layer.weight.numel() for layer in layers}
    return Operations(positions, total - sum(own.values()), frozenset(counts))


def within_size(
    limit: float, average_bits: float | None, least: float, allocate: Callable[[float], tuple[Allocation, BitPlan]],
    file_bytes: Callable[[BitPlan], int],
) -> tuple[Allocation, BitPlan, float]:  # fmt: skip
    """The allocation whose file has at most `limit` bytes: allocate, measure the file, subtract the excess, repeat.

    average_bits: a budget of bits that applies as well, or None; least: the average bits of the cheapest plan. Returns also
    the average bits that constrained the plan. Raises UserError where the cheapest plan's file is too large.
    """
    high = 8.0 if average_bits is None else average_bits
    low, bits, best, excess = least, high, None, 0.0
    for _ in range(10):
        allocation, plan = allocate(bits)
        excess = file_bytes(plan) - limit
        if excess <= 0:
            best, low = (allocation, plan, bits), bits
            if bits == high or -excess < 0.005 * limit:
                break
        else:
            high = bits
        if bits <= least and excess > 0:
            break
        # what is stored beside the codes may itself depend on the plan, so that the first correction can go too far
        bits = min(bits, plan.average) - 8 * excess / plan.weights
        if not low < bits < high:
            bits = low if best is None else (low + high) / 2
    if best is not None:
        return best
    raise UserError(
        f"budget.size: {limit:,.0f} bytes cannot be met: with {bits:.2f} bits per weight the file has "
        f"{limit + excess:,.0f} bytes. Scales, biases, layers in full precision and the stored recipe count as well"
    )


def latency_cost_model(table: Mapping[str, Mapping[int, float]], limit: float, layers: tuple[Layer, ...]) -> Latency:
    """table: layer -> bits -> milliseconds. A width costs what the fastest width at least as wide does, since codes can be
    stored in more bits. UserError where a layer is not in the table."""
    missing = [layer.name for layer in layers if layer.name not in table]
    if missing:
        raise UserError(
            f"budget.latency_table: no layer {', '.join(map(repr, missing[:5]))}{' and others' if len(missing) > 5 else ''} in "
            "it. Was it measured with this model? `fairquant bench FILE --per-layer --out TABLE` measures one"
        )
    milliseconds = {
        layer.name: [
            min((ms for wide, ms in table[layer.name].items() if bits <= wide <= 8), default=torch.inf)
            for bits in range(9)
        ]
        for layer in layers
    }
    return Latency(milliseconds, limit)
