"""Role `allocator`: spend a fixed budget of bits over the units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.errors import UserError, suggestion


def whole_bits(average: float, weights: int) -> int:
    """The largest total of bits of `weights` weights such that their average does not exceed `average` even by rounding."""
    bits = math.floor(average * weights) + 1
    while bits / weights > average:
        bits -= 1
    return bits


@dataclass(frozen=True)
class BitPlan:
    """bits: layer name -> int64 [U]; unit_sizes: layer name -> weights per unit."""

    bits: Mapping[str, Tensor]
    unit_sizes: Mapping[str, int]

    @property
    def weights(self) -> int:
        return sum(len(bits) * self.unit_sizes[name] for name, bits in self.bits.items())

    @property
    def total_bits(self) -> int:
        return sum(int(bits.sum()) * self.unit_sizes[name] for name, bits in self.bits.items())

    @property
    def average(self) -> float:
        """Bits per quantized weight."""
        return self.total_bits / self.weights

    def histogram(self) -> dict[int, int]:
        """Bits to the number of weights that have them."""
        weights: dict[int, int] = {}
        for name, bits in self.bits.items():
            for value, count in zip(*torch.unique(bits, return_counts=True), strict=True):
                weights[int(value)] = weights.get(int(value), 0) + int(count) * self.unit_sizes[name]
        return dict(sorted(weights.items()))

    def moved(self, other: BitPlan) -> float:
        """Fraction of units whose bits differ from `other`'s."""
        units = sum(len(bits) for bits in self.bits.values())
        return sum(int((bits != other.bits[name]).sum()) for name, bits in self.bits.items()) / units


class Probe(Protocol):
    """Mean loss of each group [G] on calibration images with units at the given bits [U]; -1: full precision."""

    def __call__(self, bits: Tensor) -> Tensor:
        """bits [U] -> loss of each group [G]."""
        ...


@dataclass(frozen=True, eq=False)
class BudgetConstraint:
    """What every plan has to keep: costs, allowed [U, K], of each unit at each choice; capacity: the most that all
    units may cost together."""

    costs: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    capacity: float


@dataclass(frozen=True, kw_only=True)
class AllocationProblem:
    """Units side by side over all layers, U in all; K bit choices.

    scores [U], group_scores [G, U]: importance per weight; sizes [U] weights per unit; errors [U, K] squared
    quantization error of each unit at each choice (relative to the unit's mean square where the importance is
    relative); allowed [U, K]: False for the choices that a pinned layer does not have; choices: bits, ascending;
    average_bits: the budget, bits per weight. layers [U]: number of each unit's layer; group_names [G]; probe: measures
    the loss of a plan, for allocators that use it (see `Probe`). unit_costs [U, K], limit: a budget that is not of bits,
    such as bit operations or milliseconds: the cost of each unit at each choice (never less with more bits), and the
    most that all may cost; average_bits is then its equivalent in bits. measured_errors [U, K], measured_group_errors [G, U, K]:
    the importance-weighted errors, where the importance measures them itself at each choice (`ErrorImportance`).
    """

    scores: Tensor
    group_scores: Tensor
    sizes: Tensor
    errors: Tensor
    allowed: Tensor
    choices: tuple[int, ...]
    average_bits: float
    layers: Tensor | None = None
    group_names: tuple[str, ...] = ()
    probe: Probe | None = None
    unit_costs: Tensor | None = None
    limit: float | None = None
    measured_errors: Tensor | None = None
    measured_group_errors: Tensor | None = None

    def by_layer(self) -> Tensor:
        """Number of each unit's layer [U]; each unit is a layer of its own where the problem does not say."""
        return torch.arange(len(self.sizes)) if self.layers is None else self.layers

    def group(self, key: str, name: str) -> int:
        """The index of a group that an option names; UserError with the known ones."""
        if name not in self.group_names:
            known = ", ".join(self.group_names)
            raise UserError(f"{key}: no group is called {name!r}.{suggestion(name, self.group_names)} Groups: {known}")
        return self.group_names.index(name)

    def ask(self, allocator: str) -> Probe:
        """The probe, for allocators that need one. UserError where there is none."""
        if self.probe is None:
            raise UserError(
                f"allocator {allocator!r} has to measure losses, and there is no network to measure them on"
            )
        return self.probe

    @property
    def capacity(self) -> float:
        """The most that a plan may cost: a whole number of bits, unless the budget is not of bits."""
        return float(whole_bits(self.average_bits, int(self.sizes.sum()))) if self.limit is None else self.limit

    def costs(self) -> Tensor:
        """Cost of each unit at each choice [U, K]: its bits, where the budget is of bits."""
        return self.sizes[:, None] * torch.tensor(self.choices) if self.unit_costs is None else self.unit_costs

    def cost(self, bits: Tensor) -> Tensor:
        """Cost of each unit with bits [U] out of the choices -> float64 [U]."""
        place = torch.searchsorted(torch.tensor(self.choices), bits.to(torch.int64))
        return self.costs().gather(1, place[:, None])[:, 0].double()

    def constraint(self) -> BudgetConstraint:
        """The budget as the solvers of `fairquant.bits` take it."""
        return BudgetConstraint(self.costs().double().numpy(), self.allowed.numpy(), self.capacity)

    def fits(self, bits: Tensor) -> bool:
        """Whether a plan, bits [U], is within the budget."""
        return float(self.cost(bits).sum()) <= self.capacity * (1 + 1e-12)

    def weighted_errors(self) -> Tensor:
        """Importance-weighted error e_u(b) [U, K]."""
        return self.scores[:, None] * self.errors if self.measured_errors is None else self.measured_errors

    def group_errors(self) -> Tensor:
        """Importance-weighted error of each group e_{u,g}(b) [G, U, K]."""
        measured = self.measured_group_errors
        return self.group_scores[:, :, None] * self.errors if measured is None else measured

    def least_bits(self) -> float:
        """The average bits of the plan with the fewest allowed bits."""
        fewest = torch.tensor(self.choices)[self.allowed.int().argmax(1)]
        return float((fewest * self.sizes).sum() / self.sizes.sum())


@dataclass(frozen=True)
class Allocation:
    """bits [U]. value and lower_bound certify optimality where the allocator can; nominal_bits is what a rule aimed at."""

    bits: Tensor
    value: float | None = None
    lower_bound: float | None = None
    nominal_bits: float | None = None

    @property
    def gap(self) -> float | None:
        """(value - lower bound) / |lower bound|: 0 when proven optimal."""
        if self.value is None or self.lower_bound is None:
            return None
        distance = max(self.value - self.lower_bound, 0.0)
        return distance / abs(self.lower_bound) if self.lower_bound else (0.0 if distance == 0 else float("inf"))


@runtime_checkable
class Allocator(Protocol):
    """Chooses the bits of every unit.

    Law: every unit gets an allowed choice, and the budget is never exceeded; `Infeasible` is raised where none fits.
    Optional: `objections`, see `ChecksBudget`.

        @dataclass(frozen=True)
        class Cheapest:
            def allocate(self, problem):
                first = problem.allowed.int().argmax(1)              # choices ascend
                return Allocation(torch.tensor(problem.choices)[first])
    """

    def allocate(self, problem: AllocationProblem) -> Allocation: ...


@runtime_checkable
class ChecksBudget(Protocol):
    """An allocator that can refuse a budget before anything is measured, when the recipe is read."""

    def objections(self, average_bits: float, choices: tuple[int, ...]) -> list[tuple[str, str]]:
        """Pairs (recipe key, what is wrong); empty where the budget can be met."""
        ...
