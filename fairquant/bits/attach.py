"""Put weight quantizers on a model, follow their bits, project them onto the budget, remove them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from fairquant.bits.knapsack import solve_knapsack
from fairquant.bits.problem import BitChoices, Budget, plan_of, unit_costs
from fairquant.errors import PluginFailed
from fairquant.roles.allocator import BitPlan, BudgetConstraint, whole_bits
from fairquant.roles.importance import Layer
from fairquant.roles.quantizer import QuantizedWeight, Quantizer, WeightQuantizer, row_bits
from fairquant.roles.regularizer import BitState


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """Quantizers on the layers of one model. Modules that share a weight share its quantizer.

    quantizer: what built them; start: the plan that they started from; scores [U]: importance per weight of every unit, where it
    is known.
    """

    layers: tuple[Layer, ...]
    quantizer: Quantizer
    quantizers: tuple[WeightQuantizer, ...]
    start: BitPlan
    choices: BitChoices
    budget: Budget
    start_logits: tuple[Tensor, ...] = ()
    scores: Tensor | None = None

    @property
    def learns_bits(self) -> bool:
        return any(quantizer.learns_bits for quantizer in self.quantizers)

    def bit_state(self) -> BitState | None:
        """The learnable bits of all units side by side, or None."""
        if not self.learns_bits:
            return None
        learning = [
            (layer, quantizer, start)
            for layer, quantizer, start in zip(self.layers, self.quantizers, self.start_logits, strict=True)
            if quantizer.bit_logits is not None and quantizer.learns_bits
        ]
        logits: list[Tensor] = [
            quantizer.bit_logits for _, quantizer, _ in learning if quantizer.bit_logits is not None
        ]
        return BitState(
            logits=torch.cat(logits),
            start=torch.cat([start for _, _, start in learning]).to(logits[0].device),
            bits=torch.cat([quantizer.bits() for _, quantizer, _ in learning]),
            sizes=torch.cat([self._bit_costs(layer) for layer, _, _ in learning]).to(logits[0]),
            budget=self._budget_of_learning(),
        )

    def _bit_costs(self, layer: Layer) -> Tensor:
        """What one bit costs in each of the layer's units, float64 [U]."""
        cost_model = self.budget.cost_model
        each = layer.unit_size if cost_model is None else cost_model.bit_cost(layer)
        return torch.full((layer.units,), float(each), dtype=torch.float64)

    def _budget_of_learning(self) -> float:
        """Average bits, weighted by their costs, that pinned layers leave for those whose bits are learned."""
        pairs = [
            (quantizer, self._bit_costs(layer)) for layer, quantizer in zip(self.layers, self.quantizers, strict=True)
        ]
        total = sum(float(costs.sum()) for _, costs in pairs)
        fixed = [(q.bits().double().cpu() * costs, costs) for q, costs in pairs if not q.learns_bits]
        left = self.budget.average_bits * total - sum(float(spent.sum()) for spent, _ in fixed)
        return left / (total - sum(float(costs.sum()) for _, costs in fixed))

    @torch.no_grad()
    def average(self) -> float:
        """Bits per weight at this moment, whole numbers or not."""
        sizes = [layer.unit_size for layer in self.layers]
        spent = sum(float(q.bits().sum()) * size for q, size in zip(self.quantizers, sizes, strict=True))
        return spent / sum(layer.weight.numel() for layer in self.layers)

    @torch.no_grad()
    def change_bits(self, bits: Mapping[str, Tensor]) -> bool:
        """Give layers other bits [U], by name; where a unit's differ, its grid is fitted anew to its weights as they are now. Bits
        that are learned go on being learned from there. Returns whether any differ."""
        changed = False
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            now = quantizer.bits().round().long().cpu()
            wanted = bits.get(layer.name, now)
            if layer.name in self.choices.pinned or torch.equal(now, wanted):
                continue
            fresh = self.quantizer.build(layer.weight.detach(), wanted, self.choices.free).to(layer.weight.device)
            quantizer.load_state_dict(
                _rows(fresh.state_dict(), quantizer.state_dict(), row_bits(now != wanted, layer.rows))
            )
            changed = True
        return changed

    @torch.no_grad()
    def hold_budget(self) -> None:
        """Lower all learned bits alike, by the least at which they are within the budget as they would be rounded."""
        learning = [
            (q, q.bit_logits, q.bit_logits.clone())
            for q in self.quantizers
            if q.learns_bits and q.bit_logits is not None
        ]
        costs = torch.cat([self._bit_costs(layer) for layer in self.layers])
        most = self.budget.average_bits * float(costs.sum())

        def fits(by: float) -> bool:
            for quantizer, logits, before in learning:
                logits.copy_(before)
                quantizer.lower_bits(by)
            bits = torch.cat([quantizer.bits().round().double().cpu() for quantizer in self.quantizers])
            return float((bits * costs).sum()) <= most * (1 + 1e-9)

        if not learning or fits(0.0):
            return
        low, high = 0.0, 1e-3
        while not fits(high):
            low, high = high, 2 * high
            if high > 1e6:
                raise PluginFailed(
                    f"quantizer {type(learning[0][0]).__name__}: lower_bits() does not bring the bits down to the budget"
                )
        for _ in range(6):  # to a hundredth of the shift
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        fits(high)

    @torch.no_grad()
    def project_to_budget(self) -> BitPlan:
        """Project the bits onto the budget and freeze them: the plan nearest to what was learned, never above it.

        Nearest means least sum of cost * (bits - learned bits)^2, a knapsack again. Learned bits that leave some of the
        budget are first raised by the same amount, so that it is spent. Idempotent.
        """
        learned = torch.cat([quantizer.bits().double().cpu() for quantizer in self.quantizers])
        bit_costs = torch.cat([self._bit_costs(layer) for layer in self.layers])
        columns = self.choices.columns
        if self.learns_bits:
            pinned = self.choices.pinned
            free = torch.cat([torch.full((layer.units,), layer.name not in pinned) for layer in self.layers])
            learned = _raise_to_budget(learned, free, bit_costs, max(self.choices.free), self.budget.average_bits)
        errors = (bit_costs[:, None] * (learned[:, None] - torch.tensor(columns).double()).square()).numpy()
        choice = solve_knapsack(errors, self._constraint(bit_costs)).choice
        plan = plan_of(self.layers, torch.tensor(columns)[torch.from_numpy(choice)])
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            quantizer.freeze(plan.bits[layer.name])
        return plan

    def _constraint(self, bit_costs: Tensor) -> BudgetConstraint:
        """What the projected plan has to keep. bit_costs [U]."""
        columns, allowed = self.choices.columns, self.choices.allowed(self.layers).numpy()
        cost_model = self.budget.cost_model
        if cost_model is None:
            capacity = float(whole_bits(self.budget.average_bits, int(bit_costs.sum())))
            return BudgetConstraint(bit_costs[:, None].numpy() * np.array(columns, np.float64), allowed, capacity)
        return BudgetConstraint(unit_costs(self.layers, columns, cost_model).numpy(), allowed, cost_model.limit)

    @torch.no_grad()
    def encode(self) -> dict[str, QuantizedWeight]:
        """What is stored of every layer, by its name. Raises PluginFailed where it is not what the layer computes with."""
        stored = {}
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            stored[layer.name] = quantizer.encode(layer.weight)
            used, kept = quantizer(layer.weight), stored[layer.name].decode().to(layer.weight.device)
            if used.shape != kept.shape or not torch.allclose(used, kept, rtol=1e-4, atol=1e-6):
                raise PluginFailed(
                    f"quantizer {type(quantizer).__name__}: what encode() stores of layer {layer.name!r} is not what forward() gives"
                )
        return stored

    def detach(self, weights: Mapping[str, QuantizedWeight] | None = None) -> None:
        """Remove the quantizers; the weights become the quantized ones (once, also where modules share them): what the quantizers
        give, or `weights`, by layer name."""
        for layer, quantizer in zip(self.layers, self.quantizers, strict=True):
            with torch.no_grad():
                quantized = quantizer(layer.weight) if weights is None else weights[layer.name].decode()
            for module, name in zip(layer.modules, layer.own_names, strict=True):
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
            with torch.no_grad():
                layer.weight.copy_(quantized)


def _rows(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The fresh state of a quantizer in some rows [R]; elsewhere the old one is kept. What has no rows is fresh."""

    def merged(one: Tensor, two: Tensor) -> Tensor:
        by_row = one.shape[:1] == rows.shape
        return torch.where(rows.to(one.device).view(-1, *[1] * (one.ndim - 1)), one, two) if by_row else one

    return {name: merged(tensor, old[name]) for name, tensor in fresh.items()}


def _raise_to_budget(learned: Tensor, free: Tensor, sizes: Tensor, most: int, average_bits: float) -> Tensor:
    """Raise the free units' bits by one amount, the least at which their rounded bits spend the budget."""

    def raised(amount: float) -> Tensor:
        return torch.where(free, (learned + amount).clamp(max=most), learned)

    def spent(amount: float) -> float:
        return float((raised(amount).round() * sizes).sum() / sizes.sum())

    low, high = 0.0, 8.0
    if spent(low) >= average_bits:
        return learned
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) >= average_bits else (middle, high)
    return raised(high)


def attach(
    layers: tuple[Layer, ...],
    quantizer: Quantizer,
    plan: BitPlan,
    choices: BitChoices,
    budget: Budget,
    scores: Tensor | None = None,
    rounded: Mapping[str, QuantizedWeight] | None = None,
) -> Attachment:
    """Register one weight quantizer per layer, started at the plan's bits. Pinned layers are frozen at once.

    scores [U]: importance per weight, for training in rounds; rounded: layer -> what its weight was rounded to, whose grid the
    quantizer takes over."""
    built = []
    for layer in layers:
        weight = layer.weight.detach()
        module = quantizer.build(weight, plan.bits[layer.name], choices.free).to(weight.device)
        if rounded is not None and layer.name in rounded:
            module.start_from(rounded[layer.name].to(weight.device))
        if layer.name in choices.pinned:
            module.freeze(plan.bits[layer.name])
        for owner, name in zip(layer.modules, layer.own_names, strict=True):
            parametrize.register_parametrization(owner, name, module, unsafe=True)
        built.append(module)
    starts = tuple(
        module.bit_logits.detach().clone() if module.bit_logits is not None else torch.zeros(0) for module in built
    )
    return Attachment(
        layers=layers, quantizer=quantizer, quantizers=tuple(built), start=plan, choices=choices, budget=budget, start_logits=starts,
        scores=scores,
    )  # fmt: skip
