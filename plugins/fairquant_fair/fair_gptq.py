"""Rounding that compensates for the group that is served worst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fairquant.roles.rounding import LayerInputs, Need, Rounded, RoundingProblem, in_float64
from fairquant.rounding.compensate import compensate, descend, refit_scale, row_errors
from fairquant.rounding.levels import Levels, levels_of


@dataclass(frozen=True)
class FairGptq:
    """min over codes of max_g E_g / E_g(nearest), with E_g the mean squared output error of the layer on group g.

    H(l) = sum_g l_g H_g with weights l on the simplex that start equal and are driven to the group with the largest relative
    error by exponentiated gradient, `rounds` times; the codes whose worst group is best are kept. For each l: the columns are
    rounded one after the other (GPTQ, arXiv 2210.17323), improved by `sweeps` of coordinate descent (QuantEase, arXiv
    2309.01885), and the row's scale is fitted to its codes (`scale`).

    drift: rounds towards W (I + C H^-1), C = E[(x_full - x) x^T], which makes up for what the layers before this one have changed
    (the aim of GPTAQ, arXiv 2504.02692, in closed form). bias: a layer that has a bias takes the mean error into it, so
    that the codes answer for the rest only. gradients: each position counts by the squared gradient of the loss at the layer's output
    (after GuidedQuant, Kim et al., arXiv 2505.07004; one weight a position). damping: see `fairquant.rounding.compensate`; it also
    bounds what `drift` moves.
    """

    rounds: int = 4
    step: float = 2.0
    drift: bool = True
    bias: bool = True
    scale: bool = True
    sweeps: int = 2
    damping: float = 0.1
    gradients: bool = False

    def __post_init__(self) -> None:
        for name in ("rounds", "sweeps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)!r}")
        for name in ("step", "damping"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0, got {getattr(self, name)!r}")

    @property
    def needs(self) -> frozenset[Need]:
        parts: tuple[tuple[Need, bool], ...] = (("inputs", True), ("drift", self.drift), ("gradients", self.gradients))
        return frozenset(need for need, wanted in parts if wanted)

    def round(self, problem: RoundingProblem) -> Rounded:
        """The codes of one layer; those of the nearest points where its inputs are not known."""
        if problem.inputs is None:
            return Rounded(weight=problem.grid)
        layer = _Layer(self, in_float64(problem))
        seen = layer.inputs.images > 0
        weights = seen.double() / seen.sum()
        nearest = layer.errors(layer.levels, layer.levels.numbers(), weights)
        best = layer.solve(weights)
        worst = (best.errors / nearest.clamp_min(1e-30))[seen].max()
        for _ in range(self.rounds if int(seen.sum()) > 1 else 0):
            relative = torch.where(seen, best.errors / nearest.clamp_min(1e-30), 0.0)
            weights = weights * torch.exp(self.step * (relative / relative.max().clamp_min(1e-30) - 1)) * seen
            weights = weights / weights.sum()
            found = layer.solve(weights, best.numbers)
            if (now := (found.errors / nearest.clamp_min(1e-30))[seen].max()) < worst:
                best, worst = found, now
        return Rounded(weight=best.levels.stored(best.numbers), bias=best.bias, compensated=True)


@dataclass(frozen=True, eq=False)
class _Candidate:
    levels: Levels
    numbers: Tensor
    bias: Tensor | None
    errors: Tensor


class _Layer:
    """One layer's problem, in float64."""

    def __init__(self, options: FairGptq, problem: RoundingProblem) -> None:
        assert problem.inputs is not None
        self.options = options
        self.inputs: LayerInputs = problem.inputs
        self.weight = problem.weight
        self.levels = levels_of(problem.grid, torch.float64)
        self.with_bias = options.bias and problem.has_bias

    def _slices(self) -> Iterator[tuple[int, slice]]:
        count = self.inputs.moments.shape[1]
        step = len(self.weight) // count
        for number in range(count):
            yield number, slice(number * step, (number + 1) * step)

    def solve(self, weights: Tensor, start: Tensor | None = None) -> _Candidate:
        """The codes for groups weighted by `weights` [G]; start [R, n]: codes to go on from, in place of compensation anew."""
        options, scales, numbers = self.options, [], []
        for number, rows in self._slices():
            moments, target = self._objective(number, rows, weights)
            levels = self.levels.rows(rows)
            begun = compensate(target, moments, levels, options.damping) if start is None else start[rows]
            chosen = descend(target, moments, levels, begun, options.sweeps)
            if options.scale:
                fitted = refit_scale(target, moments, levels, chosen)
                again = descend(target, moments, fitted, chosen, options.sweeps)
                better = row_errors(target, moments, fitted.values(again)) < row_errors(
                    target, moments, levels.values(chosen)
                )
                chosen = torch.where(better[:, None], again, chosen)
                scale = torch.where(better, fitted.grid.scale, levels.grid.scale)
                scales.append(scale)
            else:
                scales.append(levels.grid.scale)
            numbers.append(chosen)
        levels, codes = self.levels.scaled(torch.cat(scales)), torch.cat(numbers)
        bias = self._bias(levels.values(codes), weights) if self.with_bias else None
        return _Candidate(levels, codes, bias, self.errors(levels, codes, weights, bias))

    def _objective(self, number: int, rows: slice, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Moments [n, n] and target [R, n] of a slice."""
        inputs = self.inputs
        moments = torch.einsum("g,gij->ij", weights, inputs.moments[:, number])
        mean = weights @ inputs.means[:, number]
        if self.with_bias:
            moments = moments - torch.outer(mean, mean)
        target = self.weight[rows]
        if inputs.drift is None or inputs.drift_means is None:
            return moments, target
        drift = torch.einsum("g,gij->ij", weights, inputs.drift[:, number])
        if self.with_bias:
            drift = drift - torch.outer(weights @ inputs.drift_means[:, number], mean)
        damped = moments.clone()
        damped.diagonal().add_(self.options.damping * moments.diagonal().mean() + 1e-12)
        return moments, target + torch.linalg.solve(damped, (target @ drift).T).T

    def _bias(self, values: Tensor, weights: Tensor) -> Tensor:
        """What the mean output lacks [R]."""
        inputs, lacking = self.inputs, []
        for number, rows in self._slices():
            mean = weights @ inputs.means[:, number]
            lack = (self.weight[rows] - values[rows]) @ mean
            if inputs.drift_means is not None:
                lack = lack + self.weight[rows] @ (weights @ inputs.drift_means[:, number])
            lacking.append(lack)
        return torch.cat(lacking)

    def errors(self, levels: Levels, numbers: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
        """Mean squared output error on each group [G], summed over rows; its bias is the best where None and there is one."""
        inputs, values = self.inputs, levels.values(numbers)
        if bias is None and self.with_bias:
            bias = self._bias(values, weights)
        totals = torch.zeros_like(inputs.images)
        for number, rows in self._slices():
            error = values[rows] - self.weight[rows]
            added = torch.zeros_like(error[:, 0]) if bias is None else bias[rows]
            for group in range(len(totals)):
                total = row_errors(values[rows], inputs.moments[group, number], self.weight[rows])
                total = total + added.square() + 2 * added * (error @ inputs.means[group, number])
                if inputs.drift is not None and inputs.drift_means is not None and inputs.drift_outputs is not None:
                    moved = ((self.weight[rows] @ inputs.drift[group, number]) * error).sum(1)
                    total = total + inputs.drift_outputs[group, rows] - 2 * moved
                    total = total - 2 * added * (self.weight[rows] @ inputs.drift_means[group, number])
                totals[group] += total.sum()
        return totals
