"""Allocation problems for the solvers, and their solution by trying every plan."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from fairquant.roles import AllocationProblem


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


def random_allocation(
    units: int, choices: tuple[int, ...], average: float, seed: int = 0, groups: int = 2
) -> AllocationProblem:
    """Units of random sizes and importance, errors that fall by 4 a bit, every choice allowed."""
    draw = torch.Generator().manual_seed(seed)
    group_scores = torch.rand(groups, units, generator=draw, dtype=torch.double) ** 4
    errors = torch.rand(units, 1, generator=draw, dtype=torch.double) * 4.0 ** -torch.tensor(
        choices, dtype=torch.double
    )
    sizes = torch.randint(1, 50, (units,), generator=draw)
    allowed = torch.ones(units, len(choices), dtype=torch.bool)
    return AllocationProblem(
        scores=group_scores.max(0).values,
        group_scores=group_scores,
        sizes=sizes,
        errors=errors,
        allowed=allowed,
        choices=choices,
        average_bits=average,
    )


def layered_allocation(
    average=3.0, layers=6, units=5, seed=0, choices=(0, 1, 2, 3, 4, 6, 8), probe=None
) -> AllocationProblem:
    """Units in layers, two groups; unit 0 is pinned to 8 bits."""
    draw = torch.Generator().manual_seed(seed)
    count = layers * units
    groups = torch.rand(2, count, generator=draw, dtype=torch.float64) + 0.01
    sizes = torch.randint(4, 40, (count,), generator=draw)
    energy = torch.rand(count, generator=draw, dtype=torch.float64) * sizes
    errors = energy[:, None] * torch.tensor([4.0**-b for b in choices], dtype=torch.float64)
    allowed = torch.ones(count, len(choices), dtype=torch.bool)
    allowed[0] = torch.tensor([b == 8 for b in choices])
    number = torch.arange(layers).repeat_interleave(units)
    return AllocationProblem(
        scores=groups.max(0).values,
        group_scores=groups,
        sizes=sizes,
        errors=errors,
        allowed=allowed,
        choices=choices,
        average_bits=average,
        layers=number,
        group_names=("dark", "light"),
        probe=probe,
    )


class AdditiveLosses:
    """Group losses that grow with each layer's mean width missing to 8, plus an interaction of layers 1 and 2."""

    def __init__(self, weights: list[float], together: float = 0.0) -> None:
        self.weights, self.together, self.layers = weights, together, None

    def __call__(self, bits: torch.Tensor) -> torch.Tensor:
        assert self.layers is not None
        lost = [float(4.0 ** -bits[self.layers == n].clamp(min=0).double().mean()) if (bits[self.layers == n] >= 0).any()
                else 0.0 for n in range(len(self.weights))]  # fmt: skip
        loss = 1 + sum(w * x for w, x in zip(self.weights, lost, strict=True)) + self.together * lost[1] * lost[2]
        return torch.tensor([loss, 1.2 * loss])


def probed_allocation(weights, together=0.0, **more) -> AllocationProblem:
    """The same, with a layer for each weight, and a probe of `AdditiveLosses`."""
    probe = AdditiveLosses(weights, together)
    problem = layered_allocation(layers=len(weights), probe=probe, **more)
    probe.layers = problem.layers
    return problem
