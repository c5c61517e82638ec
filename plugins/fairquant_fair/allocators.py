"""Exact allocation of a budget of bits: a multiple-choice knapsack, over all weights or for the worst-served group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fairquant.bits.knapsack import Solution, solve_knapsack
from fairquant.bits.minimax import solve_minimax
from fairquant.roles import Allocation, AllocationProblem, BudgetConstraint


@dataclass(frozen=True)
class Knapsack:
    """min sum_u e_u(b_u) within the budget, e_u(b) = importance-weighted squared quantization error of unit u at b bits.

    Solved to a certified gap (see `optimality` in report.json): convex hulls and one sort for many units, branch and bound
    for few.
    """

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U] with the certified value and lower bound. Infeasible where no plan is within the budget."""
        return _allocation(problem, solve_knapsack(problem.weighted_errors().numpy(), non_dominated(problem)))


@dataclass(frozen=True)
class Minimax:
    """min max_g sum_u e_{u,g}(b_u) within the budget: the error of the group that quantization serves worst.

    Uses the scores of each group; the reducer does not affect it.
    """

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U] with the certified value and lower bound. Infeasible where no plan is within the budget."""
        return _allocation(problem, solve_minimax(problem.group_errors().numpy(), non_dominated(problem)))


def non_dominated(problem: AllocationProblem) -> BudgetConstraint:
    """The problem's constraint without the choices that cost at least as much as a wider one whose
    error is not larger.

    Such choices occur where the budget is not in bits, for instance in milliseconds on a processor that has one kernel for
    several widths.
    """
    constraint = problem.constraint()
    if problem.unit_costs is None:
        return constraint
    allowed, costs, errors = constraint.allowed.copy(), constraint.costs, problem.errors.numpy()
    for narrow in range(len(problem.choices) - 1):
        for wide in range(narrow + 1, len(problem.choices)):
            dominates = (costs[:, wide] <= costs[:, narrow]) & (errors[:, wide] <= errors[:, narrow])
            allowed[:, narrow] &= ~(constraint.allowed[:, wide] & dominates)
    return replace(constraint, allowed=allowed)


def _allocation(problem: AllocationProblem, solution: Solution) -> Allocation:
    bits = torch.tensor(problem.choices)[torch.from_numpy(solution.choice)]
    return Allocation(bits, value=solution.value, lower_bound=solution.lower_bound)
