"""Exact allocation of a budget of bits (reference 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fairquant.bits.knapsack import Solution, solve_knapsack
from fairquant.bits.minimax import solve_minimax
from fairquant.roles import Allocation, AllocationProblem


@dataclass(frozen=True)
class Knapsack:
    """min sum_u e_u(b_u) within the budget, e_u(b) = importance-weighted squared quantization error of unit u at b bits.

    Solved to a certified gap (see `optimality` in report.json): hull and sort for many units, branch and bound where
    there are few.
    """

    def allocate(self, problem: AllocationProblem) -> Allocation:
        found = solve_knapsack(
            problem.weighted_errors().numpy(),
            problem.costs().double().numpy(),
            problem.allowed.numpy(),
            problem.capacity,
        )
        return _allocation(problem, found)


@dataclass(frozen=True)
class Minimax:
    """min max_g sum_u e_{u,g}(b_u) within the budget: the group that quantization serves worst decides.

    Uses the groups' own scores; the reducer has no part in it.
    """

    def allocate(self, problem: AllocationProblem) -> Allocation:
        found = solve_minimax(
            problem.group_errors().numpy(), problem.costs().double().numpy(), problem.allowed.numpy(), problem.capacity
        )
        return _allocation(problem, found)


def _allocation(problem: AllocationProblem, found: Solution) -> Allocation:
    bits = torch.tensor(problem.choices)[torch.from_numpy(found.choice)]
    return Allocation(bits, value=found.value, lower_bound=found.lower_bound)
