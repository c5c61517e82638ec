"""From importance and weights to an allocation problem, and from an allocation to a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fairquant.bits.spending import Spending
from fairquant.roles.allocator import AllocationProblem, BitPlan, Probe
from fairquant.roles.importance import GroupImportance, Layer
from fairquant.roles.quantizer import Quantizer


@torch.no_grad()
def weight_errors(layer: Layer, quantizer: Quantizer, choices: tuple[int, ...]) -> Iterator[Tensor]:
    """Q_b(W) - W at each choice, in the weight's shape, with the very quantizer that will be used."""
    weight = layer.weight.detach()
    for bits in choices:
        built = quantizer.build(weight, torch.full((layer.units,), bits, dtype=torch.int64), (bits,))
        yield built.to(weight.device).eval()(weight) - weight


@torch.no_grad()
def squared_errors(layer: Layer, errors: Iterable[Tensor]) -> Tensor:
    """Weight errors at each of K choices -> squared error of each unit at each choice [U, K]."""
    squares = (error.flatten(1).square().sum(1) for error in errors)
    return torch.stack([layer.per_unit(rows) for rows in squares], 1).double().cpu()


def widths(choices: tuple[int, ...], pinned: Mapping[str, int]) -> tuple[int, ...]:
    """The problem's choices: the recipe's, and those of pinned layers."""
    return tuple(sorted({*choices, *pinned.values()}))


def make_problem(
    layers: tuple[Layer, ...],
    importance: GroupImportance,
    scores: Tensor,
    quantizer: Quantizer,
    choices: tuple[int, ...],
    average_bits: float,
    pinned: Mapping[str, int],
    probe: Probe | None = None,
    spending: Spending | None = None,
    at_hand: Mapping[str, Tensor] | None = None,
) -> AllocationProblem:
    """importance: sums per unit; scores [U]: the reducer's result. A pinned layer keeps one choice (added if needed).
    spending: a budget of something else than bits, in place of average_bits. at_hand: layer -> its weight errors at
    all `widths` [K, ...], where they have been worked out before."""
    columns = widths(choices, pinned)
    sizes = torch.cat([torch.full((layer.units,), layer.unit_size, dtype=torch.int64) for layer in layers])
    errors, allowed = [], []
    for layer in layers:
        worked_out = weight_errors(layer, quantizer, columns) if at_hand is None else at_hand[layer.name]
        squared = squared_errors(layer, worked_out)
        if importance.relative:
            energy = layer.per_unit(layer.weight.detach().flatten(1).square().sum(1)).double().cpu()
            squared = squared * (layer.unit_size / energy.clamp_min(1e-30))[:, None]
        errors.append(squared)
        may = [bits == pinned[layer.name] if layer.name in pinned else bits in choices for bits in columns]
        allowed.append(torch.tensor(may).expand(layer.units, -1))
    return AllocationProblem(
        scores=scores.double().cpu() / sizes,
        group_scores=importance.table().double().cpu() / sizes,
        sizes=sizes,
        errors=torch.cat(errors),
        allowed=torch.cat(allowed),
        choices=columns,
        average_bits=average_bits,
        layers=torch.cat([torch.full((layer.units,), number) for number, layer in enumerate(layers)]),
        group_names=importance.group_names,
        probe=probe,
        unit_costs=None
        if spending is None
        else torch.cat(
            [
                torch.tensor([[spending.cost(layer, bits) for bits in columns]], dtype=torch.float64).expand(
                    layer.units, -1
                )
                for layer in layers
            ]
        ),
        limit=None if spending is None else spending.limit,
    )


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
    parts = torch.split(bits.to(torch.int64), [layer.units for layer in layers])
    return BitPlan(
        {layer.name: part for layer, part in zip(layers, parts, strict=True)},
        {layer.name: layer.unit_size for layer in layers},
    )
