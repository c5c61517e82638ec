"""A plan for a network in the middle of its quantization-aware training: bits that are learned by planning again.

The weights have settled on their grids by then, so that what a further bit would bring cannot be read off them: rounded to more bits
they stay what they are. What can be measured is what one width less would do to each group; from that the error that a unit has
left, and what further bits would leave of it, follow by the quantizer's own rate-distortion curve. The plan is made by the geometric
mean of these errors and those that the first plan was made by, of the weights in full precision. What a unit that is pruned would
bring cannot be measured either: it no longer varies, and a normalization after it would magnify whatever it adds. For these units
the first errors count alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fairquant.bits import Attachment, find_layers
from fairquant.bits.copies import copied
from fairquant.bits.costs import CostModel
from fairquant.bits.problem import weight_errors
from fairquant.roles import AllocationProblem, BitPlan, Layer, Quantizer
from fairquant.runs.planning import Planning
from fairquant.runs.sensitivity import WidthErrors


def replan(
    planning: Planning, attachment: Attachment, first: AllocationProblem, cost_model: CostModel | None,
    metadata: Mapping[str, object], log: Callable[[str], None],
) -> BitPlan:  # fmt: skip
    """The allocator's plan for the network as it is now, quantized, by fresh importance to every group."""
    recipe, names = planning.recipe, frozenset(layer.name for layer in planning.layers)
    network = copied(planning.model.network, quantized=True)
    found = find_layers(network, recipe.quantize.units, recipe.quantize.keep, names)
    layers = tuple(layer for layer in found if layer.name in names)
    bits = torch.cat([quantizer.bits().round().to(torch.int64).cpu() for quantizer in attachment.quantizers])
    columns, quantizer = attachment.choices.columns, planning.quantization.quantizer.value
    again = replace(
        planning, recipe=replace(recipe, quantize=replace(recipe.quantize, fallback=None)),
        quantization=replace(planning.quantization, rounding=None), model=replace(planning.model, network=network), layers=layers,
        known=WidthErrors(weights=_errors(layers, attachment, quantizer, bits)),
        adjust=lambda problem: averaged(first, extrapolated(problem, bits, rate_distortion(quantizer, columns)), bits > 0),
    )  # fmt: skip
    plan = again.allocate(again.sensitivity.measure(), cost_model, metadata).plan
    moved = torch.cat([plan.bits[layer.name] for layer in layers]) != bits
    log(f"replanned: {int(moved.sum())} of {len(moved)} units have other bits")
    return plan


@torch.no_grad()
def _errors(layers: tuple[Layer, ...], attachment: Attachment, quantizer: Quantizer, bits: Tensor) -> dict[str, Tensor]:
    """Layer -> what each width would do to the quantized weight [K, *weight.shape]; for units at the smallest width, what that
    leaves away of the weight under it."""
    columns, errors = attachment.choices.columns, {}
    for layer, live, own in zip(
        layers, attachment.layers, torch.split(bits, [layer.units for layer in layers]), strict=True
    ):
        each = torch.stack([*weight_errors(layer, quantizer, columns)])
        smallest = (own == columns[0]).to(each.device)
        rows = smallest.expand(layer.rows) if len(smallest) == 1 else smallest
        each[0, rows] = (live.weight.detach() - layer.weight.detach())[rows]
        errors[layer.name] = each
    return errors


@torch.no_grad()
def rate_distortion(quantizer: Quantizer, columns: tuple[int, ...], rows: int = 64, size: int = 1024) -> Tensor:
    """The fraction of the energy of normally distributed weights that each width leaves as error [K], float64."""
    weight = torch.randn(rows, size, generator=torch.Generator().manual_seed(0))
    built = [quantizer.build(weight, torch.full((rows,), width), (width,)).eval() for width in columns]
    left = [(each(weight) - weight).double().square().mean() / weight.double().square().mean() for each in built]
    return torch.stack(left).cummin(0).values


def averaged(first: AllocationProblem, second: AllocationProblem, measured: Tensor) -> AllocationProblem:
    """The second problem with the geometric mean of both problems' errors; units that were not measured [U] have the first ones, in
    proportion to the others."""

    def mean(one: Tensor, two: Tensor) -> Tensor:
        one, two = one.double().clamp_min(1e-30), two.double().clamp_min(1e-30)
        ratios = (two / one)[..., measured, :]
        scale = ratios.log().mean().exp() if ratios.numel() else torch.tensor(1.0)
        return (one * torch.where(measured[:, None], two, one * scale)).sqrt()

    def mean_if(one: Tensor | None, two: Tensor | None) -> Tensor | None:
        return two if one is None or two is None else mean(one, two)

    return replace(
        second, errors=mean(first.errors, second.errors),
        measured_errors=mean_if(first.measured_errors, second.measured_errors),
        measured_group_errors=mean_if(first.measured_group_errors, second.measured_group_errors),
    )  # fmt: skip


def extrapolated(problem: AllocationProblem, bits: Tensor, curve: Tensor) -> AllocationProblem:
    """The problem with errors [U, K] measured at units of bits [U] completed by the quantizer's curve [K].

    D(k) is the error at the k-th width. Measured is D(k) - D(p) for widths below the unit's own, p. By the curve, D(p) is
    (D(p-1) - D(p)) c(p) / (c(p-1) - c(p)), and D(k) = D(p) c(k) / c(p) above it. At the smallest width, D(p) itself is measured.
    """
    place = torch.searchsorted(torch.tensor(problem.choices), bits)
    ratio = curve / (torch.cat([curve[:1], curve[:-1]]) - curve).clamp_min(1e-12)
    below = torch.arange(len(curve)) < place[:, None]

    def complete(errors: Tensor) -> Tensor:
        before = (place - 1).clamp_min(0).expand(errors.shape[:-1])[..., None]
        left = errors.gather(-1, before) * torch.where(place > 0, ratio[place], 1.0)[:, None]
        return torch.where(below, errors + left, left * (curve / curve[place][:, None].clamp_min(1e-12)))

    reduced, by_group = problem.measured_errors, problem.measured_group_errors
    return replace(
        problem, errors=complete(problem.errors), measured_errors=None if reduced is None else complete(reduced),
        measured_group_errors=None if by_group is None else complete(by_group),
    )  # fmt: skip
