"""Minimax allocation: the worst-served group decides, with a certificate.

min_b max_g sum_u e_{u,g}(b_u) within the budget. Its Lagrangian dual over group multipliers (on the simplex) and the
price of a bit is concave with one variable per group: it is smoothed, climbed by quasi-Newton steps (first on a sample
of the units), and each stop is rounded by the knapsack for its multipliers. Every knapsack bound is a bound here, too:
sum_g lambda_g v_g <= max_g v_g.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    best: Solution | None = None
    for temperature, steps in ((0.01, 4 + 3 * groups), (0.003, 4 + 3 * groups), (0.03, 14)):
        multipliers, price = _climb(multipliers, price, temperature, steps, group_errors, costs, allowed, capacity)
        found, price = _evaluate(multipliers, group_errors, costs, allowed, capacity)
        best = found if best is None else _better(best, found)
        if best.gap <= ENOUGH:
            break
    assert best is not None
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
    _, price = _evaluate(multipliers, group_errors, costs, allowed, capacity)
    for temperature in (0.3, 0.03, 0.01):
        multipliers, price = _climb(
            multipliers, price, temperature, 10 * groups, group_errors, costs, allowed, capacity
        )
    return multipliers, price


def _worst(group_errors: Floats, choice: Ints) -> float:
    return float(group_errors[:, np.arange(len(choice)), choice].sum(1).max())


def _better(one: Solution, other: Solution) -> Solution:
    best = one if one.value <= other.value else other
    return Solution(best.choice, best.value, max(one.lower_bound, other.lower_bound))


def _evaluate(
    multipliers: Floats, group_errors: Floats, costs: Floats, allowed: Mask, capacity: float
) -> tuple[Solution, float]:
    """The knapsack of the weighted groups: a plan, a bound, and the price of its marginal bit."""
    weighted = np.tensordot(multipliers, group_errors, 1)
    found = relax_and_fill(weighted, costs, allowed, capacity)
    units = np.arange(len(costs))
    up = np.minimum(found.choice + 1, costs.shape[1] - 1)
    paid = costs[units, up] - costs[units, found.choice]
    saved = weighted[units, found.choice] - weighted[units, up]
    steps = allowed[units, up] & (paid > 0)
    price = float(np.max(saved[steps] / paid[steps], initial=0.0))
    return Solution(found.choice, _worst(group_errors, found.choice), found.lower_bound), price


def _climb(
    multipliers: Floats, price: float, temperature: float, steps: int, group_errors: Floats, costs: Floats, allowed: Mask,
    capacity: float,
) -> tuple[Floats, float]:  # fmt: skip
    """Maximise the smoothed dual over (log multipliers, log price) with L-BFGS."""
    from scipy.optimize import minimize

    groups, units, choices = group_errors.shape
    price = max(price, 1e-200)
    # in units of the price of a bit, single precision is enough for a direction and halves the memory traffic
    table = np.clip(group_errors.reshape(groups, -1) / price, -1e30, 1e30).astype(np.float32)
    cost = costs.reshape(-1).astype(np.float32)
    blocked = np.where(allowed, 0.0, np.inf).reshape(-1).astype(np.float32)
    heat = np.float32(max(temperature * float(np.median(costs[:, -1] / max(choices - 1, 1))), 1e-30))

    def negative_dual(point: Floats) -> tuple[float, Floats]:
        logits = np.append(point[:-1], 0.0)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        mu = np.exp(np.clip(point[-1], -20, 20))
        energy = weights.astype(np.float32) @ table
        energy += np.float32(mu) * cost
        energy += blocked
        energy = energy.reshape(units, choices)
        least = energy.min(1)
        share = np.exp((least[:, None] - energy) / heat, dtype=np.float32)
        total = share.sum(1)
        share /= total[:, None]
        flat = share.reshape(-1)
        dual = float(least.sum(dtype=np.float64) - heat * np.log(total).sum(dtype=np.float64) - mu * capacity)
        by_group = (table @ flat).astype(np.float64)
        slope = weights * (by_group - weights @ by_group)
        gradient = np.append(slope[:-1], mu * (float(cost @ flat) - capacity))
        return -dual / capacity, -gradient / capacity

    start = np.append(np.log(np.maximum(multipliers[:-1], 1e-12) / max(multipliers[-1], 1e-12)), 0.0)
    result = minimize(negative_dual, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxfun": steps})
    logits = np.append(result.x[:-1], 0.0)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum(), price * float(np.exp(np.clip(result.x[-1], -20, 20)))


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
