"""Spend a budget of bits, bytes, operations or milliseconds by any rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fairquant.bits import plan_of
from fairquant.bits.costs import CostModel, within_size
from fairquant.roles import Allocation, AllocationProblem, BitPlan, Layer

#: An allocation problem -> bits within its budget.
Rule = Callable[[AllocationProblem], Allocation]


@dataclass(frozen=True)
class Spent:
    """An allocation, and the average bits that its budget comes to."""

    allocation: Allocation
    average_bits: float


@dataclass(frozen=True, kw_only=True)
class Spending:
    """problem: with the most bits that there may be; cost_model: of a budget that is not of bits; most_bytes: of the file, where it is
    limited, then within `limit` bits a weight, where these are; file_bytes: of the file with a plan."""

    problem: AllocationProblem
    layers: tuple[Layer, ...]
    cost_model: CostModel | None
    most_bytes: float | None
    limit: float | None
    file_bytes: Callable[[BitPlan], int]

    def at_most(self, found: Spent) -> Spending:
        """The same with no more than an allocation costs, which may have left some of the budget, or kept to a limit of its own."""
        bits = found.allocation.bits
        average = plan_of(self.layers, bits).average
        limit = None if self.problem.limit is None else float(self.problem.cost(bits).sum())
        return replace(self, problem=replace(self.problem, average_bits=average, limit=limit), limit=average)

    def spend(self, rule: Rule) -> Spent:
        """The whole budget. Raises UserError where no plan is within it."""

        def at(bits: float) -> tuple[Allocation, BitPlan]:
            allocation = rule(replace(self.problem, average_bits=bits))
            return allocation, plan_of(self.layers, allocation.bits)

        if self.most_bytes is not None:
            allocation, _, bits = within_size(
                self.most_bytes, self.limit, self.problem.least_bits(), at, self.file_bytes
            )
            return Spent(allocation, bits)
        allocation, plan = at(self.problem.average_bits)
        model = self.cost_model
        return Spent(allocation, self.problem.average_bits if model is None else model.average_bits(self.layers, plan))
