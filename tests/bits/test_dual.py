"""The smoothed dual: a bound on every plan, its slope and curvature, and the ascent to its maximum."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.allocation import exhaustive, random_problem

from fairquant.bits.dual import Dual, _newton_move
from fairquant.roles import BudgetConstraint


def dual_of(seed: int = 0, units: int = 40, groups: int = 3):
    errors, costs = random_problem(units, (0, 2, 4, 8), seed, groups)
    constraint = BudgetConstraint(costs, np.ones(costs.shape, bool), costs.max(1).sum() * 0.4)
    return Dual(errors, constraint, unit=float(errors.mean() / costs.mean())), errors, constraint


@pytest.mark.parametrize("seed", range(3))
def test_slope_and_curvature_are_the_derivatives_of_the_value(seed):
    dual, *_ = dual_of(seed)
    point, temperature = np.array([0.5, 0.3, 0.2, 1.5]), 40.0
    _, slope, curvature = dual._at(point, temperature)
    for axis in range(4):
        step = np.zeros(4)
        step[axis] = 1e-3 * point[axis]
        (up, slope_up, _), (down, slope_down, _) = (
            dual._at(point + step, temperature),
            dual._at(point - step, temperature),
        )
        assert slope[axis] == pytest.approx((up - down) / (2 * step[axis]), rel=0.02, abs=0.02 * np.abs(slope).max())
        measured = -(slope_up - slope_down) / (2 * step[axis])
        np.testing.assert_allclose(curvature[axis], measured, rtol=0.1, atol=0.02 * np.abs(curvature).max())


def test_the_ascent_raises_the_value_and_keeps_multipliers_on_the_simplex():
    dual, *_ = dual_of(1)
    start, unit = np.full(3, 1 / 3), dual.unit
    multipliers, shadow_price = dual.newton_ascent(start, unit, 0.1, 20)
    assert multipliers.sum() == pytest.approx(1)
    assert (multipliers >= 0).all()
    assert shadow_price >= 0
    value = lambda weights, at: dual._at(np.append(weights, at / dual.unit), 0.1 * dual.bit)[0]
    assert value(multipliers, shadow_price) > value(start, unit)


@pytest.mark.parametrize("seed", range(3))
def test_the_dual_never_exceeds_the_best_plan(seed):
    dual, errors, constraint = dual_of(seed, units=5, groups=2)
    best = exhaustive(errors, constraint.costs, constraint.allowed, constraint.capacity)
    for temperature in (0.3, 0.01):
        multipliers, shadow_price = dual.newton_ascent(np.array([0.5, 0.5]), dual.unit, temperature, 15)
        weighted = np.tensordot(multipliers, errors, 1) + shadow_price * constraint.costs
        assert weighted.min(1).sum() - shadow_price * constraint.capacity <= best * (1 + 1e-6)


def test_a_move_that_would_leave_the_simplex_ends_on_its_edge():
    point = np.array([0.9, 0.1, 2.0])
    move = _newton_move(point, np.array([1.0, -5.0, 0.1]), np.eye(3))
    assert (point + move >= -1e-12).all()
    assert move[:2].sum() == pytest.approx(0)
    assert (point + move)[1] == pytest.approx(0)
