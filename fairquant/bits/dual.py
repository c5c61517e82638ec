"""The Lagrangian dual of minimax allocation, smoothed, and its maximisation by Newton steps."""

from __future__ import annotations

import numpy as np

from fairquant.bits.knapsack import Floats
from fairquant.roles.allocator import BudgetConstraint

#: Beyond this, numbers are cut off in single precision.
MOST = 1e15


class Dual:
    """The smoothed dual at points (multipliers on the simplex, shadow price of a bit): value, slope and curvature.

    Errors are stored in units of a shadow price, in single precision: enough for a direction, at half the memory traffic.
    """

    def __init__(self, group_errors: Floats, constraint: BudgetConstraint, unit: float) -> None:
        """group_errors [G, U, K]; unit: a shadow price of typical size."""
        costs, allowed = constraint.costs, constraint.allowed
        groups, units, choices = group_errors.shape
        self.unit, self.capacity = max(unit, 1e-200), constraint.capacity
        self.table = np.empty((groups + 1, choices, units), np.float32)
        with np.errstate(over="ignore"):
            np.clip(group_errors.transpose(0, 2, 1) / self.unit, -MOST, MOST, out=self.table[:-1], casting="unsafe")
        self.table[-1] = costs.T
        self.blocked = None if allowed.all() else np.where(allowed.T, 0, np.inf).astype(np.float32)
        self.bit = max(float(np.median(costs[:, -1] / max(choices - 1, 1))), 1e-30)  # the cost of a typical step

    def newton_ascent(
        self, multipliers: Floats, shadow_price: float, temperature: float, steps: int
    ) -> tuple[Floats, float]:
        """Damped Newton steps (Levenberg) from multipliers [G] and a shadow price.

        temperature: in units of the cost of a typical step. Returns the multipliers [G] and the shadow price reached.
        """
        point = np.append(multipliers, shadow_price / self.unit)
        value, slope, curvature = self._at(point, temperature * self.bit)
        damping = 1e-3
        for _ in range(steps):
            damped = curvature + np.diag(damping * np.diag(curvature) + 1e-9 * np.trace(curvature) + 1e-30)
            move = _newton_move(point, slope, damped)
            if not slope @ move > 1e-7 * abs(value):
                break
            new = np.maximum(point + move, 0.0)
            there, new_slope, new_curvature = self._at(new, temperature * self.bit)
            if there > value:
                point, value, slope, curvature = new, there, new_slope, new_curvature
                damping = max(damping / 5, 1e-6)
            else:
                damping *= 20
        weights = point[:-1] / point[:-1].sum()
        return weights, float(point[-1] * self.unit)

    def _at(self, point: Floats, temperature: float) -> tuple[float, Floats, Floats]:
        """Value, gradient [G + 1] and minus the Hessian [G + 1, G + 1]; only undecided units contribute curvature."""
        size, choices, units = self.table.shape
        flat = self.table.reshape(size, -1)
        energy = (np.minimum(point, MOST).astype(np.float32) @ flat).reshape(choices, units)
        if self.blocked is not None:
            energy += self.blocked
        least = energy.min(0)
        fraction = np.exp((least - energy) / np.float32(temperature), dtype=np.float32)
        total = fraction.sum(0)
        fraction /= total
        value = float(least.sum(dtype=np.float64) - temperature * np.log(total).sum(dtype=np.float64))
        slope = (flat @ fraction.reshape(-1)).astype(np.float64)
        slope[-1] -= self.capacity
        undecided = np.flatnonzero(total > 1.0001)
        parts = self.table[:, :, undecided].astype(np.float64)
        weights = fraction[:, undecided].astype(np.float64)
        parts -= (parts * weights).sum(1, keepdims=True)
        spread = (parts * weights).reshape(size, -1) @ parts.reshape(size, -1).T
        return value - float(point[-1]) * self.capacity, slope, spread / temperature


def _newton_move(point: Floats, slope: Floats, curvature: Floats) -> Floats:
    """The best move of a quadratic model with multipliers kept on the simplex and the shadow price not below 0: coordinates
    that would turn negative are set to 0, one round after the other."""
    size = len(point)
    free = np.ones(size, bool)
    move = np.zeros(size)
    on_simplex = np.append(np.ones(size - 1), 0.0)
    for _ in range(size):
        system = np.zeros((size + 1, size + 1))
        system[:size, :size], system[size, :size], system[:size, size] = curvature, on_simplex, on_simplex
        active = np.append(free, True)
        right = np.append(slope, 0.0) - system[:, :size] @ np.where(free, 0.0, move)
        solved = np.linalg.lstsq(system[np.ix_(active, active)], right[active], rcond=None)[0]
        move[free] = solved[:-1]
        negative = free & (point + move < -1e-15)
        if not negative.any():
            break
        move[negative] = -point[negative]
        free &= ~negative
    return move
