"""Exact allocation of a budget of bits (reference 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
            worth_offering(problem).numpy(),
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
            problem.group_errors().numpy(), problem.costs().double().numpy(), worth_offering(problem).numpy(),
            problem.capacity,
        )  # fmt: skip
        return _allocation(problem, found)


def worth_offering(problem: AllocationProblem) -> Tensor:
    """The allowed choices [U, K] without those that cost as much as a wider one with no more error: of budgets that are
    not of bits, such as milliseconds on a processor with one kernel for several widths."""
    offered = problem.allowed.clone()
    if problem.unit_costs is None:
        return offered
    for narrow in range(len(problem.choices) - 1):
        for wide in range(narrow + 1, len(problem.choices)):
            same = problem.unit_costs[:, wide] <= problem.unit_costs[:, narrow]
            no_worse = problem.errors[:, wide] <= problem.errors[:, narrow]
            offered[:, narrow] &= ~(problem.allowed[:, wide] & same & no_worse)
    return offered


def _allocation(problem: AllocationProblem, found: Solution) -> Allocation:
    bits = torch.tensor(problem.choices)[torch.from_numpy(found.choice)]
    return Allocation(bits, value=found.value, lower_bound=found.lower_bound)
