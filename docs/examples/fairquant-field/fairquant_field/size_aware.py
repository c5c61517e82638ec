"""A budget in megabytes of file size instead of bits per weight."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fairquant.bits.knapsack import solve_knapsack
from fairquant.roles import Allocation, AllocationProblem

#: Bits that the file stores per unit besides its codes: a float32 scale, and four bits for its width.
OVERHEAD = 32 + 4


@dataclass(frozen=True)
class SizeAware:
    """Least importance-weighted error within `megabytes` of quantized weights as they are stored, scales included.

    budget.average_bits applies as well: the tighter of the two limits counts.
    """

    megabytes: float = 4.0

    def __post_init__(self) -> None:
        if not self.megabytes > 0:
            raise ValueError(f"megabytes: must be positive, got {self.megabytes!r}")

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U]. Infeasible where no plan is within both limits."""
        available = max(self.megabytes * 8e6 - OVERHEAD * len(problem.sizes), 0.0)  # bits
        constraint = replace(problem.constraint(), capacity=min(problem.capacity, available))
        solution = solve_knapsack(problem.weighted_errors().numpy(), constraint)
        bits = torch.tensor(problem.choices)[torch.from_numpy(solution.choice)]
        return Allocation(bits, value=solution.value, lower_bound=solution.lower_bound)
