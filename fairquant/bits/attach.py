"""Put weight quantizers on a model, follow their bits, settle them within the budget, take them off again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from fairquant.bits.knapsack import solve_knapsack
from fairquant.bits.problem import plan_of
from fairquant.bits.spending import Spending
from fairquant.roles.allocator import BitPlan, whole_bits
from fairquant.roles.importance import Layer
from fairquant.roles.quantizer import QuantizedWeight, Quantizer, WeightQuantizer
from fairquant.roles.regularizer import BitState


@dataclass(frozen=True)
class Attachment:
    """Quantizers on the layers of one model. Modules that share a weight share its quantizer."""

    layers: tuple[Layer, ...]
    quantizers: tuple[WeightQuantizer, ...]
    start: BitPlan
    choices: tuple[int, ...]
    pinned: dict[str, int]
    average_bits: float
    _start_logits: tuple[Tensor, ...] = ()
    scores: Tensor | None = None  # importance per weight of every unit, where it is known
    spending: Spending | None = None  # where the budget is not of bits: average_bits is then its limit over its prices

    @property
    def learns_bits(self) -> bool:
        return any(quantizer.learns_bits for quantizer in self.quantizers)

    def bit_state(self) -> BitState | None:
        """The learnable bits of all units side by side, or None."""
        if not self.learns_bits:
            return None
        learning = [
            (layer, quantizer, start)
            for layer, quantizer, start in zip(self.layers, self.quantizers, self._start_logits, strict=True)
            if quantizer.bit_logits is not None and quantizer.learns_bits
        ]
        logits: list[Tensor] = [
            quantizer.bit_logits for _, quantizer, _ in learning if quantizer.bit_logits is not None
        ]
        return BitState(
            logits=torch.cat(logits),
            start=torch.cat([start for _, _, start in learning]).to(logits[0].device),
            bits=torch.cat([quantizer.bits() for _, quantizer, _ in learning]),
            sizes=torch.cat([self._prices(layer) for layer, _, _ in learning]).to(logits[0]),
            budget=self._budget_of_learning(),
        )

    def _prices(self, layer: Layer) -> Tensor:
        """What one bit costs in each of the layer's units [U]."""
        each = layer.unit_size if self.spending is None else self.spending.price(layer)
        return torch.full((layer.units,), float(each), dtype=torch.float64)

    def _budget_of_learning(self) -> float:
        """Bits left, price for price, for the layers whose bits are learnt, once pinned layers have theirs."""
        pairs = [
            (quantizer, self._prices(layer)) for layer, quantizer in zip(self.layers, self.quantizers, strict=True)
        ]
        total = sum(float(prices.sum()) for _, prices in pairs)
        fixed = [(q.bits().double().cpu() * prices, prices) for q, prices in pairs if not q.learns_bits]
        left = self.average_bits * total - sum(float(spent.sum()) for spent, _ in fixed)
        return left / (total - sum(float(prices.sum()) for _, prices in fixed))

    @torch.no_grad()
    def average(self) -> float:
        """Bits per weight as they stand, whole or not."""
        sizes = [layer.unit_size for layer in self.layers]
        spent = sum(float(q.bits().sum()) * size for q, size in zip(self.quantizers, sizes, strict=True))
        return spent / sum(layer.weight.numel() for layer in self.layers)

    @torch.no_grad()
    def settle(self) -> BitPlan:
        """Project the bits onto the budget and freeze them: the plan nearest to what was learnt, never above it.

        Nearest means least sum of price * (bits - learnt bits)^2, a knapsack again. Learnt bits that leave some of the
        budget are first raised alike, so that it is spent. Idempotent.
        """
        learnt = torch.cat([quantizer.bits().double().cpu() for quantizer in self.quantizers])
        prices = torch.cat([self._prices(layer) for layer in self.layers])
        columns = tuple(sorted({*self.choices, *self.pinned.values()}))
        allowed = torch.cat(
            [
                torch.tensor(
                    [bits == self.pinned[layer.name] if layer.name in self.pinned else bits in self.choices
                     for bits in columns]
                ).expand(layer.units, -1)
                for layer in self.layers
            ]
        ).numpy()  # fmt: skip
        width = np.array(columns, dtype=np.float64)
        if self.learns_bits:
            free = torch.cat([torch.full((layer.units,), layer.name not in self.pinned) for layer in self.layers])
            learnt = _raise_to_budget(learnt, free, prices, max(self.choices), self.average_bits)
        errors = (prices[:, None] * (learnt[:, None] - torch.from_numpy(width)).square()).numpy()
        if self.spending is None:
            costs, capacity = prices[:, None].numpy() * width, float(whole_bits(self.average_bits, int(prices.sum())))
        else:
            each = [[self.spending.cost(layer, bits) for bits in columns] for layer in self.layers]
            costs, capacity = np.repeat(each, [layer.units for layer in self.layers], axis=0), self.spending.limit
        choice = solve_knapsack(errors, costs, allowed, capacity).choice
        plan = plan_of(self.layers, torch.tensor(columns)[torch.from_numpy(choice)])
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            quantizer.freeze(plan.bits[layer.name])
        return plan

    @torch.no_grad()
    def encode(self) -> dict[str, QuantizedWeight]:
        """What is stored of every layer, by its name."""
        return {
            layer.name: quantizer.encode(layer.weight)
            for layer, quantizer in zip(self.layers, self.quantizers, strict=True)
        }

    def detach(self) -> None:
        """Take the quantizers off; the weights become the quantized ones (once, also where modules share them)."""
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            with torch.no_grad():
                quantized = quantizer(layer.weight)
            for module in layer.modules:
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            with torch.no_grad():
                layer.weight.copy_(quantized)


def _raise_to_budget(learnt: Tensor, free: Tensor, sizes: Tensor, most: int, average_bits: float) -> Tensor:
    """Raise the free units' bits alike, by the least amount at which their whole bits spend the budget."""

    def raised(amount: float) -> Tensor:
        return torch.where(free, (learnt + amount).clamp(max=most), learnt)

    def spent(amount: float) -> float:
        return float((raised(amount).round() * sizes).sum() / sizes.sum())

    low, high = 0.0, 8.0
    if spent(low) >= average_bits:
        return learnt
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) >= average_bits else (middle, high)
    return raised(high)


def attach(
    layers: tuple[Layer, ...],
    quantizer: Quantizer,
    plan: BitPlan,
    choices: tuple[int, ...],
    average_bits: float,
    pinned: dict[str, int],
    scores: Tensor | None = None,
    spending: Spending | None = None,
) -> Attachment:
    """Register one weight quantizer per layer, started at the plan's bits. Pinned layers are frozen at once.

    scores [U]: importance per weight, for training in rounds. spending: a budget of something else than bits."""
    built = []
    for layer in layers:
        weight = layer.weight.detach()
        module = quantizer.build(weight, plan.bits[layer.name], choices).to(weight.device)
        if layer.name in pinned:
            module.freeze(plan.bits[layer.name])
        for owner in layer.modules:
            parametrize.register_parametrization(owner, "weight", module, unsafe=True)
        built.append(module)
    starts = tuple(
        module.bit_logits.detach().clone() if module.bit_logits is not None else torch.zeros(0) for module in built
    )
    return Attachment(layers, tuple(built), plan, choices, dict(pinned), average_bits, starts, scores, spending)
