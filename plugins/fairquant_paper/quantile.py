"""The allocator of the FairQuant paper: units ranked by importance, cut at fixed fractions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem


@dataclass(frozen=True)
class Quantile:
    """Rank all units by importance per weight; the lowest fraction fractions[0] gets levels[0] bits, and so on (FairQuant,
    arXiv 2602.23192).

    The fractions are of units, so that the average over weights differs from the nominal sum(fractions * levels); both are
    reported. Where the actual average exceeds the budget, the least important units are lowered until it does not.
    Levels must be among the recipe's bit choices.
    """

    levels: tuple[int, ...] = (2, 4, 8)
    fractions: tuple[float, ...] = (0.2, 0.4, 0.4)

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.fractions):
            raise ValueError(f"levels, fractions: {len(self.levels)} levels but {len(self.fractions)} fractions")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels: must ascend, got {list(self.levels)!r}")
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"fractions: must not be negative and must sum to 1, got {list(self.fractions)!r}")

    @property
    def nominal_bits(self) -> float:
        """Average bits per unit before any unit is pinned or lowered."""
        return sum(level * fraction for level, fraction in zip(self.levels, self.fractions, strict=True))

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U]. Infeasible where a level is not among the choices, or the budget is below the cheapest plan."""
        unknown = [level for level in self.levels if level not in problem.choices]
        if unknown:
            raise Infeasible(
                f"allocator.levels: {unknown} are not among quantize.choices {list(problem.choices)}. Add them there"
            )
        units = len(problem.scores)
        order = torch.argsort(problem.scores, stable=True)
        cuts = torch.tensor(self.fractions, dtype=torch.double).cumsum(0)[:-1].mul(units).round()
        rank = torch.empty(units, dtype=torch.double)
        rank[order] = torch.arange(units, dtype=torch.double)
        level = torch.bucketize(rank, cuts, right=True)
        bits = torch.tensor(self.levels)[level]
        choices = torch.tensor(problem.choices)
        free = problem.allowed.sum(1) > 1
        bits = torch.where(free, bits, choices[problem.allowed.int().argmax(1)])
        return Allocation(self._lower_to_budget(bits, free, order, problem), nominal_bits=self.nominal_bits)

    def _lower_to_budget(self, bits: Tensor, free: Tensor, order: Tensor, problem: AllocationProblem) -> Tensor:
        """Lower the least important units, level by level, until the budget is met.

        bits [U]; free [U]: units with more than one allowed choice; order [U]: units by ascending score -> bits [U].
        """
        bits = bits.clone()
        levels = sorted({*self.levels, problem.choices[0]}, reverse=True)
        for above, below in pairwise(levels):
            cost = problem.cost(bits)
            excess = float(cost.sum()) - problem.capacity
            if excess <= 1e-12 * problem.capacity:
                return bits
            movable = order[(free & (bits == above))[order]]
            freed = (cost - problem.cost(bits.clamp(max=below)))[movable].cumsum(0)
            needed = int(torch.searchsorted(freed, excess)) + 1
            bits[movable[:needed]] = below
        if not problem.fits(bits):
            raise Infeasible(
                f"the budget of {problem.average_bits:g} bits is below the cheapest plan's {problem.least_bits():g}"
            )
        return bits
