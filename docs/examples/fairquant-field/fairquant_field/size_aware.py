"""A budget in megabytes of file, not in bits per weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fairquant.bits.knapsack import solve_knapsack
from fairquant.roles import Allocation, AllocationProblem

#: What the file holds of a unit besides its codes: a float32 scale, and four bits that say how many bits it has.
OVERHEAD = 32 + 4


@dataclass(frozen=True)
class SizeAware:
    """Least importance-weighted error within `megabytes` of quantized weights as they are stored, scales included.

    budget.average_bits stays a limit of its own: of the two the tighter one counts.
    """

    megabytes: float = 4.0

    def __post_init__(self) -> None:
        if not self.megabytes > 0:
            raise ValueError(f"megabytes: must be positive, got {self.megabytes!r}")

    def allocate(self, problem: AllocationProblem) -> Allocation:
        room = self.megabytes * 8e6 - OVERHEAD * len(problem.sizes)
        found = solve_knapsack(
            problem.weighted_errors().numpy(), problem.costs().double().numpy(), problem.allowed.numpy(),
            min(problem.capacity, max(room, 0.0)),
        )  # fmt: skip
        bits = torch.tensor(problem.choices)[torch.from_numpy(found.choice)]
        return Allocation(bits, value=found.value, lower_bound=found.lower_bound)
