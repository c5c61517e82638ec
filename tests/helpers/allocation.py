"""Allocation problems for the solvers, and their solution by trying every plan."""

from __future__ import annotations

import itertools

import numpy as np


def random_problem(units: int, choices: tuple[int, ...], seed: int, groups: int = 1, equal_sizes: bool = False):
    """Errors fall by about 4 per bit, with noise, so that some are not convex."""
    draw = np.random.default_rng(seed)
    sizes = np.full(units, 9) if equal_sizes else draw.integers(1, 60, units)
    scale = draw.lognormal(0, 2, (groups, units, 1))
    shape = 4.0 ** -np.array(choices) * draw.uniform(0.3, 3, (1, units, len(choices)))
    errors = scale * -np.sort(-shape, axis=2)
    return errors, sizes[:, None] * np.array(choices, float)


def exhaustive(errors, costs, allowed, capacity):
    """The best value over all plans: the worst group's total. errors [G, U, K]."""
    units, best = costs.shape[0], np.inf
    for plan in itertools.product(range(costs.shape[1]), repeat=units):
        rows = np.arange(units)
        if allowed[rows, plan].all() and costs[rows, plan].sum() <= capacity:
            best = min(best, errors[:, rows, plan].sum(1).max())
    return best
