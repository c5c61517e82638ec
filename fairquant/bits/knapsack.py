"""The multiple-choice knapsack behind every budget, solved with a certificate.

min sum_u e_u(b_u)  s.t.  sum_u c_u(b_u) <= capacity, one allowed choice per unit. The lower convex hull of each unit's
(cost, error) points and one sort of its slopes solve the linear relaxation (Sinha & Zoltners, 1979); rounding it down
and filling the rest is off the optimum by less than one unit's step, and the relaxation's value certifies it.
Small problems whose certificate is loose are finished by branch and bound (scipy.optimize.milp, HiGHS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import Infeasible
from fairquant.roles.allocator import BudgetConstraint

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Relative gap that is good enough, and the largest number of (unit, choice) pairs that branch and bound may take on.
GOOD_GAP, SMALL = 1e-4, 2_500


@dataclass(frozen=True)
class Solution:
    """choice [U]: index of the chosen column; value: its total error; lower_bound: no plan can be below it."""

    choice: Ints
    value: float
    lower_bound: float

    @property
    def gap(self) -> float:
        return max(self.value - self.lower_bound, 0.0) / max(abs(self.lower_bound), 1e-300)


def cheapest(constraint: BudgetConstraint) -> Ints:
    """Each unit's cheapest allowed choice [U]; raises Infeasible where even those exceed the capacity."""
    masked = np.where(constraint.allowed, constraint.costs, np.inf)
    choice: Ints = masked.argmin(1)
    least = masked.min(1).sum()
    if not least <= constraint.capacity * (1 + 1e-12):
        raise Infeasible(
            f"the budget, {constraint.capacity:.6g} in all, is below what the cheapest plan costs, {least:.6g}. "
            "Raise the budget, allow fewer bits in quantize.choices, or unpin layers"
        )
    return choice


def solve_knapsack(errors: Floats, constraint: BudgetConstraint) -> Solution:
    """errors [U, K]; the constraint's costs ascend along K. Never exceeds the capacity; raises Infeasible where it must."""
    solution = relax_and_fill(errors, constraint)
    if solution.gap > GOOD_GAP and errors.size <= SMALL:
        return _branch_and_bound(errors, constraint, solution)
    return solution


def relax_and_fill(errors: Floats, constraint: BudgetConstraint) -> Solution:
    """The linear relaxation by hull and sort, rounded down, then filled greedily. errors [U, K]."""
    costs, capacity = constraint.costs, constraint.capacity
    units = np.arange(len(errors))
    choice = cheapest(constraint)
    value = float(errors[units, choice].sum())
    unit, target, saved, paid = _hull_steps(errors, constraint, choice)
    order = np.argsort(-saved / paid, kind="stable")
    unit, target, saved, paid = unit[order], target[order], saved[order], paid[order]
    spent = costs[units, choice].sum() + np.cumsum(paid)
    fits = int(np.searchsorted(spent, capacity * (1 + 1e-12), side="right"))
    lower = value - float(saved[:fits].sum())
    if fits < len(unit):
        before = spent[fits] - paid[fits]
        lower -= float(saved[fits] * (capacity - before) / paid[fits])
    np.maximum.at(choice, unit[:fits], target[:fits])
    choice = _fill(errors, constraint, choice)
    return Solution(choice, float(errors[units, choice].sum()), lower)


def _hull_steps(errors: Floats, constraint: BudgetConstraint, start: Ints) -> tuple[Ints, Ints, Floats, Floats]:
    """Steps up each unit's lower convex hull: unit, column reached, error saved, cost paid; steepest first per unit."""
    costs = constraint.costs
    masked = np.where(constraint.allowed, errors, np.inf)
    active, current = np.arange(len(errors)), start
    steps: list[tuple[Ints, Ints, Floats, Floats]] = []
    while len(active):
        rows = np.arange(len(active))
        here_error, here_cost = masked[active, current], costs[active, current]
        saved = here_error[:, None] - masked[active]
        paid = costs[active] - here_cost[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where((paid > 0) & (saved > 0), saved / paid, 0.0)
        # the last of equal slopes: one long step in place of two
        reached = slope.shape[1] - 1 - slope[:, ::-1].argmax(1)
        improves = slope[rows, reached] > 0
        rows, active, current = rows[improves], active[improves], reached[improves]
        steps.append((active, current, saved[rows, current], paid[rows, current]))
    unit, target, saved, paid = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    return unit, target, saved, paid


def _fill(errors: Floats, constraint: BudgetConstraint, choice: Ints, rounds: int = 64) -> Ints:
    """Spend what is left: the single move that saves the most error and still fits, until none does."""
    costs = constraint.costs
    units = np.arange(len(choice))
    left = constraint.capacity * (1 + 1e-12) - costs[units, choice].sum()
    masked = np.where(constraint.allowed, errors, np.inf)
    # only units whose smallest step fits can move
    for _ in range(rounds):
        paid = costs - costs[units, choice][:, None]
        possible = (paid > 0) & (paid <= left)
        candidates = np.flatnonzero(possible.any(1))
        if not len(candidates):
            break
        saved = np.where(
            possible[candidates], masked[candidates, choice[candidates]][:, None] - masked[candidates], -np.inf
        )
        best = int(saved.argmax())
        row, column = divmod(best, saved.shape[1])
        if saved[row, column] <= 0:
            break
        moved = candidates[row]
        left -= paid[moved, column]
        choice = choice.copy()
        choice[moved] = column
    return choice


def _branch_and_bound(errors: Floats, constraint: BudgetConstraint, incumbent: Solution) -> Solution:
    """Finish a small problem exactly; keep the incumbent where the solver finds nothing better."""
    objective = np.where(constraint.allowed, errors, 0.0).ravel()
    choice, bound = solve_milp(objective, constraint, near=incumbent.value)
    if choice is None:
        return incumbent
    value = float(errors[np.arange(len(choice)), choice].sum())
    lower = max(incumbent.lower_bound, min(bound, value))
    return (
        Solution(choice, value, lower)
        if value < incumbent.value
        else Solution(incumbent.choice, incumbent.value, lower)
    )


def solve_milp(
    objective: Floats, constraint: BudgetConstraint, group_errors: Floats | None = None, *, near: float
) -> tuple[Ints | None, float]:
    """One choice per unit within the capacity by HiGHS: min objective, or min max_g of group_errors [G, U, K].

    near: about the optimum's value; the solver's tolerances are absolute, so that numbers are scaled by it.
    Returns (choice [U] or None, proven bound). Deterministic: limited by nodes, not by time.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import block_diag, csr_array, hstack

    costs, capacity = constraint.costs, constraint.capacity
    units, choices = costs.shape
    scale = max(abs(near), 1e-300) / 1_000
    once = csr_array(block_diag([np.ones((1, choices))] * units))
    weigh = csr_array(costs.ravel()[None, :] / max(capacity, 1e-9))
    upper, integrality = constraint.allowed.ravel().astype(float), np.ones(units * choices)
    goal, bounds = objective / scale, Bounds(0, upper)
    rows = [(once, 1.0, 1.0), (weigh, -np.inf, 1.0)]
    if group_errors is not None:  # one more variable, the worst group's error, which is minimised
        table = np.where(constraint.allowed[None], group_errors, 0.0).reshape(len(group_errors), -1) / scale
        worst = csr_array(hstack([csr_array(table), csr_array(-np.ones((len(table), 1)))]))
        wide = [csr_array(hstack([matrix, csr_array((matrix.shape[0], 1))])) for matrix in (once, weigh)]
        rows = [(wide[0], 1.0, 1.0), (wide[1], -np.inf, 1.0), (worst, -np.inf, 0.0)]
        goal = np.append(np.zeros(units * choices), 1.0)
        bounds = Bounds(np.append(np.zeros(units * choices), -np.inf), np.append(upper, np.inf))
        integrality = np.append(integrality, 0)
    limits = [LinearConstraint(matrix, low, high) for matrix, low, high in rows]
    result = milp(
        goal, constraints=limits, bounds=bounds, integrality=integrality,
        options={"mip_rel_gap": GOOD_GAP / 2, "node_limit": 5_000},
    )  # fmt: skip
    if result.x is None:
        return None, -np.inf
    choice: Ints = result.x[: units * choices].reshape(units, choices).argmax(1)
    if costs[np.arange(units), choice].sum() > capacity * (1 + 1e-12):  # the solver's tolerance is not ours
        return None, -np.inf
    bound = result.mip_dual_bound if result.mip_dual_bound is not None else -np.inf
    return choice, float(bound) * scale
