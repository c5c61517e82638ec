"""Allocators that measure losses of the network: FMPQ and IMPQ. Both decide per layer, on a few calibration images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem
from fairquant_rivals.ranked import check_widths, two_widths

Floats = NDArray[np.float64]
Loss = Literal["mean", "worst-group"]


def one_loss(losses: Tensor, which: Loss) -> float:
    """Group losses [G] -> their mean, or the largest; groups without images (NaN) are left out."""
    known = losses[torch.isfinite(losses)]
    return float(known.mean() if which == "mean" else known.max())


@dataclass(frozen=True)
class Fmpq:
    """zeta_n(b) = (L_n(b) - L_fp) / L_fp with only layer n at b bits; each layer gets the fewest bits with zeta < beta,
    and beta is the smallest that the budget allows (FMPQ, arXiv 2506.01221).

    loss: "mean" over groups, or "worst-group", our group-aware variant. Part of the budget may stay unspent: the rule
    changes the bits of whole layers.
    """

    loss: Loss = "mean"

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U], equal within each layer. Infeasible where no threshold meets the budget."""
        probe, layers = problem.ask("fmpq"), problem.by_layer()
        full = torch.full((len(problem.sizes),), -1)
        base = one_loss(probe(full), self.loss)
        numbers = torch.unique(layers).tolist()
        choices, zeta = [], []  # per layer: allowed bits ascending, and their zeta
        for layer in numbers:
            inside = layers == layer
            allowed = [b for k, b in enumerate(problem.choices) if bool(problem.allowed[inside, k].all())]
            choices.append(allowed)
            if len(allowed) == 1:
                zeta.append([0.0])
                continue
            losses = [one_loss(probe(torch.where(inside, b, full)), self.loss) for b in allowed]
            zeta.append([(loss - base) / max(base, 1e-12) for loss in losses])

        def plan(beta: float) -> Tensor:
            bits = full.clone()
            for layer, widths, increases in zip(numbers, choices, zeta, strict=True):
                acceptable = [b for b, z in zip(widths, increases, strict=True) if z < beta]
                bits[layers == layer] = acceptable[0] if acceptable else widths[-1]
            return bits

        # plans change only at the zetas: try them all in ascending order (bisection would need monotone sizes)
        steps = sorted({z for increases in zeta for z in increases})
        betas = [-math.inf, *(math.nextafter(z, math.inf) for z in steps), math.inf]
        for beta in betas:
            bits = plan(beta)
            if problem.fits(bits):
                return Allocation(bits)
        raise Infeasible(f"fmpq: no threshold meets the budget of {problem.average_bits:g} bits. Allow fewer bits")


@dataclass(frozen=True, kw_only=True)
class Impq:
    """Interaction-aware: min a'q + q'Kq over layers, q = 1 meaning low, as a MILP (IMPQ, arXiv 2509.15455).

    All layers start at `high`; along `permutations` random orders they are lowered to `low` one by one; phi = mean and
    C = covariance of the loss changes; K = (1 - shrinkage) C + shrinkage diag(C); a_i = phi_i - sum_{j != i} K_ij.
    low, high null: 2 and 4 bits for budgets up to 4, else 4 and 8. loss: "worst-group" is our group-aware variant.
    """

    permutations: int = 20
    shrinkage: float = 0.5
    low: int | None = None
    high: int | None = None
    loss: Loss = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.permutations < 2:
            raise ValueError(f"permutations: must be at least 2, got {self.permutations!r}")
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage: must be in [0, 1], got {self.shrinkage!r}")
        if (self.low is None) != (self.high is None):
            raise ValueError("low, high: give both or neither")
        if self.low is not None:
            check_widths(self.low, self.high)

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U], low or high for each layer. Infeasible where the programme has no solution within the budget."""
        small_budget = problem.average_bits <= 4
        low = self.low if self.low is not None else (2 if small_budget else 4)
        high = self.high if self.high is not None else (4 if small_budget else 8)
        down, up = two_widths(problem, low, high)
        layers = problem.by_layer()
        free = [n for n in torch.unique(layers).tolist() if bool((down != up)[layers == n].any())]
        changes = self._changes(problem, down, up, layers, free)
        extra_cost = problem.cost(up) - problem.cost(down)
        cost = np.array([float(extra_cost[layers == n].sum()) for n in free])
        spare = problem.capacity * (1 + 1e-12) - float(problem.cost(down).sum())
        lowered = solve_quadratic(*quadratic(changes, self.shrinkage), cost, spare)
        bits = up.clone()
        for number, is_low in zip(free, lowered, strict=True):
            if is_low:
                bits[layers == number] = down[layers == number]
        return Allocation(bits)

    def _changes(self, problem: AllocationProblem, down: Tensor, up: Tensor, layers: Tensor, free: list[int]) -> Floats:
        """Loss change when each of the L free layers is lowered, in `permutations` random orders [permutations, L].

        down, up, layers [U]: the low and the high bits, and the number of each unit's layer.
        """
        probe, draw = problem.ask("impq"), np.random.default_rng([self.seed, 0x1397])
        start = one_loss(probe(up), self.loss)
        changes = np.zeros((self.permutations, len(free)))
        for row in range(self.permutations):
            bits, before = up.clone(), start
            for column in draw.permutation(len(free)):
                inside = layers == free[column]
                bits[inside] = down[inside]
                after = one_loss(probe(bits), self.loss)
                changes[row, column], before = after - before, after
        return changes


def quadratic(changes: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Loss changes [M, L] -> (a [L], K [L, L])."""
    phi, covariance = changes.mean(0), np.atleast_2d(np.cov(changes, rowvar=False))
    k = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
    return phi - (k.sum(1) - np.diag(k)), k


def solve_quadratic(a: Floats, k: Floats, cost: Floats, spare: float) -> NDArray[np.bool_]:
    """min a'q + q'Kq, q [L] binary, subject to sum cost (1 - q) <= spare: products linearized, solved by HiGHS.

    a, cost [L], k [L, L] -> q [L]. Infeasible where HiGHS finds no solution within its node limit.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    size = len(a)
    first, second = np.triu_indices(size, 1)
    pairs = len(first)
    scale = max(float(np.abs(a).max(initial=0)), float(np.abs(k).max(initial=0)), 1e-300)
    objective = np.concatenate([a + np.diag(k), 2 * k[first, second]]) / scale
    row, product = np.arange(pairs), size + np.arange(pairs)
    ones = np.ones(pairs)

    def rows(*terms: tuple[NDArray[np.int64], float]) -> coo_array:
        """One row per pair: the sum of the terms (column of each row [pairs], coefficient)."""
        values = np.concatenate([ones * sign for _, sign in terms])
        columns = np.concatenate([column for column, _ in terms])
        return coo_array((values, (np.tile(row, len(terms)), columns)), shape=(pairs, size + pairs))

    limits = [LinearConstraint(np.append(cost, np.zeros(pairs))[None], lb=cost.sum() - spare)]
    if pairs:
        limits += [
            LinearConstraint(rows((product, 1.0), (first, -1.0)).tocsr(), ub=0),
            LinearConstraint(rows((product, 1.0), (second, -1.0)).tocsr(), ub=0),
            LinearConstraint(rows((product, 1.0), (first, -1.0), (second, -1.0)).tocsr(), lb=-1),
        ]
    integral = np.append(np.ones(size, np.int64), np.zeros(pairs, np.int64))
    result = milp(
        objective, constraints=limits, bounds=Bounds(0, 1), integrality=integral, options={"node_limit": 2_000}
    )
    if result.x is None:
        raise Infeasible("impq: the quadratic programme has no solution within its node limit")
    lowered: NDArray[np.bool_] = result.x[:size] > 0.5
    return lowered
