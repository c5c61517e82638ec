"""Minimax allocation: the worst-served group decides, with a certificate.

min_b max_g sum_u e_{u,g}(b_u) within the budget. Its Lagrangian dual over group multipliers (on the simplex) and the
shadow price of a bit is concave with one variable per group and one for the price; over thousands of units it is all but
smooth. Smoothed a little, it is maximised by Newton steps (first on a sample of the units). The plan at the point that
is reached is brought within the budget; the dual's value there is a bound that no plan can beat.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairquant.bits.dual import Dual
from fairquant.bits.knapsack import (
    GOOD_GAP,
    SMALL,
    Floats,
    Ints,
    Solution,
    cheapest,
    relax_and_fill,
    solve_knapsack,
    solve_milp,
)
from fairquant.roles.allocator import BudgetConstraint

#: Relative gap at which no further effort is made, and the units on which the multipliers are first sought.
ENOUGH, SAMPLE = 9e-4, 2_500


def solve_minimax(group_errors: Floats, constraint: BudgetConstraint) -> Solution:
    """group_errors [G, U, K]. Never exceeds the capacity; raises Infeasible where even the cheapest plan does."""
    if len(group_errors) == 1:
        return solve_knapsack(group_errors[0], constraint)
    least = cheapest(constraint)
    if not constraint.capacity > 0:  # nothing to spend: the cheapest plan is the only one
        value = _worst(group_errors, least)
        return Solution(least, value, value)
    best, multipliers = _ascend(group_errors, constraint)
    if best.gap > ENOUGH:
        best = _cutting_planes(best, multipliers, group_errors, constraint)
    if best.gap > GOOD_GAP and group_errors.size <= 4 * SMALL:
        nothing = np.zeros(constraint.costs.size)
        choice, bound = solve_milp(nothing, constraint, group_errors, near=best.value)
        if choice is not None:
            value = _worst(group_errors, choice)
            best = _better(best, Solution(choice, value, min(bound, value)))
    if best.gap > ENOUGH:
        choice = _balance(best.choice, group_errors, constraint)
        best = _better(best, Solution(choice, _worst(group_errors, choice), best.lower_bound))
    return best


def _ascend(group_errors: Floats, constraint: BudgetConstraint) -> tuple[Solution, Floats]:
    """The best plan on the way up the dual, at falling temperatures until its gap is small, and the multipliers [G]."""
    multipliers, shadow_price = _start(group_errors, constraint)
    dual = Dual(group_errors, constraint, shadow_price)
    multipliers, shadow_price = dual.newton_ascent(multipliers, shadow_price, 0.01, 6)
    best = _plan_at(multipliers, shadow_price, group_errors, constraint)
    for temperatures in ((0.003,), (1.0, 0.1, 0.03, 0.01, 0.003)):
        if best.gap > ENOUGH:
            for temperature in temperatures:
                multipliers, shadow_price = dual.newton_ascent(multipliers, shadow_price, temperature, 15)
            best = _better(best, _plan_at(multipliers, shadow_price, group_errors, constraint))
    return best, multipliers


def _start(group_errors: Floats, constraint: BudgetConstraint) -> tuple[Floats, float]:
    """Multipliers [G] and shadow price of a bit, from a fixed sample of the units where there are many."""
    costs, allowed = constraint.costs, constraint.allowed
    groups, units, _ = group_errors.shape
    if units > 2 * SAMPLE:
        rows = np.sort(np.random.default_rng(0).permutation(units)[:SAMPLE])
        fraction = costs[rows].max(1).sum() / costs.max(1).sum()
        least = np.where(allowed[rows], costs[rows], np.inf).min(1).sum()
        # a sample of pinned units may cost more than its fraction of the capacity
        constraint = BudgetConstraint(costs[rows], allowed[rows], max(constraint.capacity * fraction, least))
        group_errors = group_errors[:, rows]
    multipliers = np.full(groups, 1 / groups)
    shadow_price = _marginal_value(group_errors.mean(0), constraint)
    dual = Dual(group_errors, constraint, shadow_price)
    for temperature in (0.3, 0.03, 0.01):
        multipliers, shadow_price = dual.newton_ascent(multipliers, shadow_price, temperature, 12)
    return multipliers, shadow_price


def _marginal_value(errors: Floats, constraint: BudgetConstraint) -> float:
    """Error saved per bit by the best step that the knapsack's plan leaves out. errors [U, K]."""
    costs, allowed = constraint.costs, constraint.allowed
    choice = relax_and_fill(errors, constraint).choice
    units = np.arange(len(costs))
    up = np.minimum(choice + 1, costs.shape[1] - 1)
    paid = costs[units, up] - costs[units, choice]
    saved = errors[units, choice] - errors[units, up]
    steps = allowed[units, up] & (paid > 0)
    return float(np.max(saved[steps] / paid[steps], initial=0.0))


def _worst(group_errors: Floats, choice: Ints) -> float:
    return float(group_errors[:, np.arange(len(choice)), choice].sum(1).max())


def _better(one: Solution, other: Solution) -> Solution:
    best = one if one.value <= other.value else other
    return Solution(best.choice, best.value, max(one.lower_bound, other.lower_bound))


def _plan_at(multipliers: Floats, shadow_price: float, group_errors: Floats, constraint: BudgetConstraint) -> Solution:
    """The units' own best choices at these multipliers, the shadow price raised until they fit, and the rest spent.

    The bound holds at any multipliers and any price: sum_u min_k (weighted error + price x cost) - price x capacity.
    """
    costs, allowed, capacity = constraint.costs, constraint.allowed, constraint.capacity
    weighted = np.ascontiguousarray(np.tensordot(multipliers, group_errors, 1).T)
    if not allowed.all():
        weighted[~allowed.T] = np.inf
    cost = np.ascontiguousarray(costs.T)
    bound = float((weighted + shadow_price * cost).min(0).sum() - shadow_price * capacity)

    choice = _fitting_choice(weighted, cost, capacity, shadow_price)
    if choice is None:
        choice = cheapest(constraint)
    choice = _spend(weighted.T, costs, capacity, choice)
    return Solution(choice, _worst(group_errors, choice), min(bound, _worst(group_errors, choice)))


def _fitting_choice(weighted: Floats, cost: Floats, capacity: float, shadow_price: float) -> Ints | None:
    """Each unit's best choice [U] at the lowest shadow price, near the given one, at which all fit; None where none does.

    weighted, cost [K, U].
    """
    units = np.arange(cost.shape[1])

    def chosen(at: float) -> tuple[Ints, float]:
        choice: Ints = (weighted + at * cost).argmin(0)
        return choice, float(cost[choice, units].sum())

    low = high = min(max(shadow_price, 1e-290), 1e290)
    choice, spent = chosen(high)
    rises = (1.01, 1.03, 1.1, 2.0, *[1e30] * 20)
    for rise in rises if spent > capacity else ():  # up until it fits
        low, high = high, min(low * rise, 1e300)
        choice, spent = chosen(high)
        if spent <= capacity:
            break
    for fall in (0.99, 0.97, 0.9, 0.5, 0.0) if low == high else ():  # it fits: down until it no longer does
        low = high * fall
        if chosen(low)[1] > capacity:
            break
    for _ in range(14):
        middle = (low + high) / 2
        there, cost_there = chosen(middle)
        if cost_there <= capacity:
            high, choice, spent = middle, there, cost_there
            if capacity - spent <= 1e-5 * capacity:
                break
        else:
            low = middle
    return choice if spent <= capacity else None


def _knapsack_at(multipliers: Floats, group_errors: Floats, constraint: BudgetConstraint) -> Solution:
    """The weighted groups' knapsack: slower than `_plan_at`, but it takes some of many like units and leaves others."""
    solution = relax_and_fill(np.tensordot(multipliers, group_errors, 1), constraint)
    return replace(solution, value=_worst(group_errors, solution.choice))


def _cutting_planes(
    best: Solution, multipliers: Floats, group_errors: Floats, constraint: BudgetConstraint, rounds: int = 40
) -> Solution:
    """Kelley's method, for duals that are not smooth (many like units, groups with units of their own): every plan v
    so far says that the dual is at most sum_g lambda_g v_g; the next multipliers are the best under all of these."""
    from scipy.optimize import linprog

    groups = len(group_errors)
    scale = max(abs(best.value), 1e-300)
    cuts: list[Floats] = []
    tried = multipliers
    for _ in range(rounds):
        solution = _knapsack_at(tried, group_errors, constraint)
        best = _better(best, solution)
        if best.gap <= ENOUGH:
            break
        cuts.append(group_errors[:, np.arange(len(solution.choice)), solution.choice].sum(1) / scale)
        master = linprog(
            np.append(np.zeros(groups), -1.0),
            A_ub=np.hstack([-np.array(cuts), np.ones((len(cuts), 1))]), b_ub=np.zeros(len(cuts)),
            A_eq=np.append(np.ones(groups), 0.0)[None], b_eq=[1.0], bounds=[(0, None)] * groups + [(None, None)],
        )  # fmt: skip
        if master.x is None or -float(master.fun or 0) * scale <= best.lower_bound * (1 + 1e-5):
            break
        # between the best of the model and the last point: plain Kelley jumps from corner to corner
        tried = 0.7 * np.maximum(master.x[:groups], 0) + 0.3 * tried
        tried = tried / tried.sum()
    return best


def _spend(errors: Floats, costs: Floats, capacity: float, choice: Ints) -> Ints:
    """Steps up, steepest first, as far as they fit; several rounds. errors [U, K], inf where a choice is not allowed."""
    units = np.arange(len(costs))
    choice = choice.copy()
    for _ in range(8):
        left = capacity * (1 + 1e-12) - costs[units, choice].sum()
        paid = costs - costs[units, choice][:, None]
        row, column = np.nonzero((paid > 0) & (paid <= left))
        slope = (errors[row, choice[row]] - errors[row, column]) / paid[row, column]
        order = np.argsort(-slope, kind="stable")
        order = order[slope[order] > 0]
        _, first = np.unique(row[order], return_index=True)
        order = order[np.sort(first)]  # each unit's steepest step
        fits = np.cumsum(paid[row[order], column[order]]) <= left
        if not fits.any():
            break
        taken = order[fits]
        choice[row[taken]] = column[taken]
    return choice


def _balance(choice: Ints, group_errors: Floats, constraint: BudgetConstraint, rounds: int = 200) -> Ints:
    """Pairs of moves that help the worst group: one unit up, another down, within the capacity."""
    costs, allowed, capacity = constraint.costs, constraint.allowed, constraint.capacity
    units = np.arange(len(choice))
    choice = choice.copy()
    for _ in range(rounds):
        totals = group_errors[:, units, choice].sum(1)
        left = capacity - costs[units, choice].sum()
        up, down = np.minimum(choice + 1, costs.shape[1] - 1), np.maximum(choice - 1, 0)
        gain = group_errors[:, units, up] - group_errors[:, units, choice]
        loss = group_errors[:, units, down] - group_errors[:, units, choice]
        paid = costs[units, up] - costs[units, choice]
        freed = costs[units, choice] - costs[units, down]
        worst = int(totals.argmax())
        rises = np.argsort(gain[worst] / np.maximum(paid, 1e-300))[:40]
        rises = rises[(up[rises] != choice[rises]) & allowed[rises, up[rises]]]
        falls = np.argsort(loss[worst] / np.maximum(freed, 1e-300))
        falls = falls[(down[falls] != choice[falls]) & allowed[falls, down[falls]]][:40]
        best, move = float(totals.max()), None
        for rise in rises:
            if paid[rise] <= left and (value := float((totals + gain[:, rise]).max())) < best:
                best, move = value, (rise, None)
            for fall in falls:
                if fall != rise and paid[rise] - freed[fall] <= left:
                    value = float((totals + gain[:, rise] + loss[:, fall]).max())
                    if value < best * (1 - 1e-9):
                        best, move = value, (rise, fall)
        if move is None:
            break
        choice[move[0]] = up[move[0]]
        if move[1] is not None:
            choice[move[1]] = down[move[1]]
    return choice
