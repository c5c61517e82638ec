"""The paper's allocator: cut the ranked units at fixed shares."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem


@dataclass(frozen=True)
class Quantile:
    """Rank all units by importance per weight; the lowest shares[0] get levels[0] bits, and so on (reference 1.3).

    The shares are of units, so that the average over weights differs from the nominal sum(shares * levels): both are
    reported. Where the actual average exceeds the budget, the least important units step down until it does not.
    Levels must be among the recipe's bit choices.
    """

    levels: tuple[int, ...] = (2, 4, 8)
    shares: tuple[float, ...] = (0.2, 0.4, 0.4)

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.shares):
            raise ValueError(f"levels, shares: {len(self.levels)} levels but {len(self.shares)} shares")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels: must ascend, got {list(self.levels)!r}")
        if abs(sum(self.shares) - 1) > 1e-6 or min(self.shares) < 0:
            raise ValueError(f"shares: must be positive and sum to 1, got {list(self.shares)!r}")

    @property
    def nominal_bits(self) -> float:
        return sum(level * share for level, share in zip(self.levels, self.shares, strict=True))

    def allocate(self, problem: AllocationProblem) -> Allocation:
        unknown = [level for level in self.levels if level not in problem.choices]
        if unknown:
            raise Infeasible(
                f"allocator.levels: {unknown} are not among quantize.choices {list(problem.choices)}. Add them there"
            )
        units = len(problem.scores)
        order = torch.argsort(problem.scores, stable=True)
        cuts = torch.tensor(self.shares, dtype=torch.double).cumsum(0)[:-1].mul(units).round()
        rank = torch.empty(units, dtype=torch.double)
        rank[order] = torch.arange(units, dtype=torch.double)
        level = torch.bucketize(rank, cuts, right=True)
        bits = torch.tensor(self.levels)[level]
        choices = torch.tensor(problem.choices)
        free = problem.allowed.sum(1) > 1
        bits = torch.where(free, bits, choices[problem.allowed.int().argmax(1)])
        return Allocation(self._within(bits, free, order, problem), nominal_bits=self.nominal_bits)

    def _within(
        self, bits: torch.Tensor, free: torch.Tensor, order: torch.Tensor, problem: AllocationProblem
    ) -> torch.Tensor:
        """Lower the least important units, level by level, until the budget holds."""
        bits = bits.clone()
        ladder = sorted({*self.levels, problem.choices[0]}, reverse=True)
        for above, below in pairwise(ladder):
            spent = problem.cost(bits)
            over = float(spent.sum()) - problem.capacity
            if over <= 1e-12 * problem.capacity:
                return bits
            movable = order[(free & (bits == above))[order]]
            freed = (spent - problem.cost(bits.clamp(max=below)))[movable].cumsum(0)
            needed = int(torch.searchsorted(freed, over)) + 1
            bits[movable[:needed]] = below
        if not problem.fits(bits):
            raise Infeasible(
                f"the budget of {problem.average_bits:g} bits is below the cheapest plan's {problem.least_bits():g}"
            )
        return bits
