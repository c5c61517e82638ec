"""Minimax allocation: the worst-served group decides, with a certificate.

min_b max_g sum_u e_{u,g}(b_u) within the budget. Its Lagrangian dual over group multipliers (on the simplex) and the
price of a bit is concave with one variable per group and one for the price; over thousands of units it is all but
smooth. Smoothed a little, it is climbed by Newton steps (first on a sample of the units). The plan at the point that
is reached is brought within the budget; the dual's value there is a bound that no plan can beat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

Mask = NDArray[np.bool_]
#: Relative gap at which no further effort is made, and the units on which the multipliers are first sought.
ENOUGH, SAMPLE = 9e-4, 2_500


def solve_minimax(group_errors: Floats, costs: Floats, allowed: Mask, capacity: float) -> Solution:
    """group_errors [G, U, K], costs and allowed [U, K]. Never exceeds the capacity."""
    groups = len(group_errors)
    if groups == 1:
        return solve_knapsack(group_errors[0], costs, allowed, capacity)
    least = cheapest(costs, allowed, capacity)
    if not capacity > 0:  # nothing to spend: the cheapest plan is the only one
        value = _worst(group_errors, least)
        return Solution(least, value, value)
    multipliers, price = _start(group_errors, costs, allowed, capacity)
    dual = Dual(group_errors, costs, allowed, capacity, price)
    problem = (group_errors, costs, allowed, capacity)
    multipliers, price = dual.climb(multipliers, price, 0.01, 6)
    best = _plan_at(multipliers, price, *problem)
    for heats in ((0.003,), (1.0, 0.1, 0.03, 0.01, 0.003)):
        if best.gap > ENOUGH:
            for heat in heats:
                multipliers, price = dual.climb(multipliers, price, heat, 15)
            best = _better(best, _plan_at(multipliers, price, *problem))
    if best.gap > ENOUGH:
        best = _cutting_planes(best, multipliers, *problem)
    if best.gap > GOOD_GAP and costs.size * groups <= 4 * SMALL:
        choice, bound = solve_milp(np.zeros(costs.size), costs, allowed, capacity, group_errors, near=best.value)
        if choice is not None:
            value = _worst(group_errors, choice)
            best = _better(best, Solution(choice, value, min(bound, value)))
    if best.gap > ENOUGH:
        choice = _balance(best.choice, group_errors, costs, allowed, capacity)
        best = _better(best, Solution(choice, _worst(group_errors, choice), best.lower_bound))
    return best


def _start(group_errors: Floats, costs: Floats, allowed: Mask, capacity: float) -> tuple[Floats, float]:
    """Multipliers and price of a bit, from a fixed sample of the units where there are many."""
    groups, units, _ = group_errors.shape
    if units > 2 * SAMPLE:
        rows = np.sort(np.random.default_rng(0).permutation(units)[:SAMPLE])
        share = costs[rows].max(1).sum() / costs.max(1).sum()
        least = np.where(allowed[rows], costs[rows], np.inf).min(1).sum()
        group_errors, costs, allowed = group_errors[:, rows], costs[rows], allowed[rows]
        capacity = max(capacity * share, least)  # a sample of pinned units may cost more than its share
    multipliers = np.full(groups, 1 / groups)
    price = _marginal_price(group_errors.mean(0), costs, allowed, capacity)
    dual = Dual(group_errors, costs, allowed, capacity, price)
    for heat in (0.3, 0.03, 0.01):
        multipliers, price = dual.climb(multipliers, price, heat, 12)
    return multipliers, price


def _marginal_price(errors: Floats, costs: Floats, allowed: Mask, capacity: float) -> float:
    """Error saved per bit by the best step that the knapsack's plan leaves out."""
    choice = relax_and_fill(errors, costs, allowed, capacity).choice
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


def _plan_at(
    multipliers: Floats, price: float, group_errors: Floats, costs: Floats, allowed: Mask, capacity: float
) -> Solution:
    """The units' own best choices at these prices, made a little dearer until they fit, and the rest spent.

    The bound holds at any multipliers and any price: sum_u min_k (weighted error + price x cost) - price x capacity.
    """
    units = np.arange(len(costs))
    weighted = np.ascontiguousarray(np.tensordot(multipliers, group_errors, 1).T)
    if not allowed.all():
        weighted[~allowed.T] = np.inf
    cost = np.ascontiguousarray(costs.T)
    bound = float((weighted + price * cost).min(0).sum() - price * capacity)

    def chosen(at: float) -> tuple[Ints, float]:
        choice: Ints = (weighted + at * cost).argmin(0)
        return choice, float(cost[choice, units].sum())

    low = high = min(max(price, 1e-290), 1e290)
    choice, spent = chosen(high)
    rises = (1.01, 1.03, 1.1, 2.0, *[1e30] * 20)
    for rise in rises if spent > capacity else ():  # dearer until it fits
        low, high = high, min(low * rise, 1e300)
        choice, spent = chosen(high)
        if spent <= capacity:
            break
    for fall in (0.99, 0.97, 0.9, 0.5, 0.0) if low == high else ():  # it fits: cheaper until it no longer does
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
    if spent > capacity:
        choice = cheapest(costs, allowed, capacity)
    choice = _spend(weighted.T, costs, capacity, choice)
    return Solution(choice, _worst(group_errors, choice), min(bound, _worst(group_errors, choice)))


def _knapsack_at(multipliers: Floats, group_errors: Floats, costs: Floats, allowed: Mask, capacity: float) -> Solution:
    """The weighted groups' knapsack: dearer than `_plan_at`, but it takes some of many like units and leaves others."""
    found = relax_and_fill(np.tensordot(multipliers, group_errors, 1), costs, allowed, capacity)
    return Solution(found.choice, _worst(group_errors, found.choice), found.lower_bound)


def _cutting_planes(
    best: Solution, multipliers: Floats, group_errors: Floats, costs: Floats, allowed: Mask, capacity: float,
    rounds: int = 40,
) -> Solution:  # fmt: skip
    """Kelley's method, for duals that are not smooth (many like units, groups with units of their own): every plan v
    found so far says that the dual is at most sum_g lambda_g v_g; the next multipliers are the best under all of these."""
    from scipy.optimize import linprog

    groups = len(group_errors)
    scale = max(abs(best.value), 1e-300)
    cuts: list[Floats] = []
    tried = multipliers
    for _ in range(rounds):
        found = _knapsack_at(tried, group_errors, costs, allowed, capacity)
        best = _better(best, found)
        if best.gap <= ENOUGH:
            break
        cuts.append(group_errors[:, np.arange(len(costs)), found.choice].sum(1) / scale)
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


def _balance(
    choice: Ints, group_errors: Floats, costs: Floats, allowed: Mask, capacity: float, rounds: int = 200
) -> Ints:
    """Pairs of moves that help the worst group: one unit up, another down, within the capacity."""
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
