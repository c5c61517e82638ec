"""From importance and weights to an allocation problem, and from an allocation to a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fairquant.bits.costs import CostModel
from fairquant.roles.allocator import AllocationProblem, BitPlan
from fairquant.roles.importance import GroupImportance, Layer
from fairquant.roles.quantizer import Quantizer


@dataclass(frozen=True)
class BitChoices:
    """free: the widths that an allocator may give, in bits; pinned: layer name -> the one width that the layer has."""

    free: tuple[int, ...]
    pinned: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[int, ...]:
        """Every width that occurs, ascending: K of them."""
        return tuple(sorted({*self.free, *self.pinned.values()}))

    def allowed(self, layers: tuple[Layer, ...]) -> Tensor:
        """Whether a unit may have a width [U, K]."""
        rows = []
        for layer in layers:
            own = (self.pinned[layer.name],) if layer.name in self.pinned else self.free
            rows.append(torch.tensor([width in own for width in self.columns]).expand(layer.units, -1))
        return torch.cat(rows)


@dataclass(frozen=True)
class Budget:
    """average_bits: bits per weight, or what a budget of something else comes to in bits; cost_model: such a budget."""

    average_bits: float
    cost_model: CostModel | None = None


@torch.no_grad()
def weight_errors(layer: Layer, quantizer: Quantizer, choices: tuple[int, ...]) -> Iterator[Tensor]:
    """Q_b(W) - W at each of K choices, each [out, ...] as the weight, with the very quantizer that will be used."""
    weight = layer.weight.detach()
    for bits in choices:
        built = quantizer.build(weight, torch.full((layer.units,), bits, dtype=torch.int64), (bits,))
        yield built.to(weight.device).eval()(weight) - weight


@torch.no_grad()
def squared_errors(
    layers: tuple[Layer, ...], quantizer: Quantizer, choices: tuple[int, ...], relative: bool = False,
    precomputed: Mapping[str, Tensor] | None = None, moments: Mapping[str, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Squared quantization error of each unit at each choice [U, K].

    relative: divided by the unit's mean square, for importance that contains the weights' magnitude already.
    precomputed: layer -> its weight errors at all choices [K, *weight.shape], where they are known. moments: layer -> second
    moments of its inputs [S, n, n], where the errors of the output count, in units of the weight's (`output_errors`).
    """
    rows = []
    for layer in layers:
        errors = weight_errors(layer, quantizer, choices) if precomputed is None else precomputed[layer.name]
        known = (moments or {}).get(layer.name)
        rows_of_errors = [
            error.flatten(1).square().sum(1) if known is None else output_errors(error.flatten(1), known)
            for error in errors
        ]
        squared = torch.stack([layer.per_unit(each) for each in rows_of_errors], 1).double().cpu()
        if relative:
            energy = layer.per_unit(layer.weight.detach().flatten(1).square().sum(1)).double().cpu()
            squared = squared * (layer.unit_size / energy.clamp_min(1e-30))[:, None]
        rows.append(squared)
    return torch.cat(rows)


def output_errors(error: Tensor, moments: Tensor) -> Tensor:
    """An error of the weight [R, n] -> the squared error of the output [R], in units of squared errors of the weight: divided by
    the mean square of the inputs. moments [S, n, n]: of S slices of consecutive rows."""
    moments = moments.to(error)
    scale = moments.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-30)
    parts = error.view(len(moments), -1, error.shape[1])
    return ((parts @ moments) * parts).sum(-1).flatten().clamp_min(0) / scale


def make_problem(
    layers: tuple[Layer, ...], importance: GroupImportance, scores: Tensor, errors: Tensor, choices: BitChoices,
    budget: Budget,
) -> AllocationProblem:  # fmt: skip
    """importance: sums per unit; scores [U]: the reducer's result; errors [U, K]: see `squared_errors`."""
    sizes = torch.cat([torch.full((layer.units,), layer.unit_size, dtype=torch.int64) for layer in layers])
    return AllocationProblem(
        scores=scores.double().cpu() / sizes,
        group_scores=importance.table().double().cpu() / sizes,
        sizes=sizes,
        errors=errors,
        allowed=choices.allowed(layers),
        choices=choices.columns,
        average_bits=budget.average_bits,
        layers=torch.cat([torch.full((layer.units,), number) for number, layer in enumerate(layers)]),
        group_names=importance.group_names,
        unit_costs=None if budget.cost_model is None else unit_costs(layers, choices.columns, budget.cost_model),
        limit=None if budget.cost_model is None else budget.cost_model.limit,
    )


def unit_costs(layers: tuple[Layer, ...], choices: tuple[int, ...], cost_model: CostModel) -> Tensor:
    """What each unit costs at each choice, float64 [U, K]."""
    rows = [
        torch.tensor([[cost_model.unit_cost(layer, bits) for bits in choices]], dtype=torch.float64).expand(
            layer.units, -1
        )
        for layer in layers
    ]
    return torch.cat(rows)


def with_measured(
    problem: AllocationProblem,
    layers: tuple[Layer, ...],
    measured: Mapping[str, Tensor],
    reduce: Callable[[Tensor], Tensor],
) -> AllocationProblem:
    """The problem with importance-weighted errors as they were measured: layer -> [G, U, K]. reduce: groups to one,
    [G, N] -> [N]; all widths together, so that it sees a group's errors as one."""
    table = torch.cat([measured[layer.name] for layer in layers], 1).double().cpu()
    reduced = reduce(table.flatten(1)).view(table.shape[1:])
    return replace(problem, measured_errors=reduced, measured_group_errors=table)


def plan_of(layers: tuple[Layer, ...], bits: Tensor) -> BitPlan:
    """Bits of all units side by side [U] -> a plan by layer."""
    by_layer = torch.split(bits.to(torch.int64), [layer.units for layer in layers])
    return BitPlan(
        {layer.name: layer_bits for layer, layer_bits in zip(layers, by_layer, strict=True)},
        {layer.name: layer.unit_size for layer in layers},
    )
