"""Allocators that rank units and give few bits to the lowest ranks: FairQuantize, FairPrune, FairGRAPE.

They use two widths, `low` and `high`. The widths are our interpretation: the originals prune, or quantize at one width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem


def check_widths(low: int, high: int | None) -> None:
    """ValueError unless both widths are within 0..8 and `high`, if given, is larger than `low`."""
    for name, bits in (("low", low), ("high", high)):
        if bits is not None and not 0 <= bits <= 8:
            raise ValueError(f"{name}: must be within 0..8, got {bits!r}")
    if high is not None and high <= low:
        raise ValueError(f"high: must be more than low, {low}, got {high!r}")


def column(problem: AllocationProblem, bits: int, key: str) -> int:
    """The column of `bits` in the problem's tables [U, K]; Infeasible, naming the option `key`, where it is not a choice."""
    if bits not in problem.choices:
        raise Infeasible(f"allocator.{key}: {bits} is not among quantize.choices {list(problem.choices)}")
    return problem.choices.index(bits)


def two_widths(problem: AllocationProblem, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Bits [U] with every unit low and with every unit high; pinned units keep theirs in both.

    Infeasible where a width is not a choice, or where `low` bits everywhere exceed the budget.
    """
    choices = torch.tensor(problem.choices)
    pinned = choices[problem.allowed.int().argmax(1)]
    plans = []
    for bits, key in ((low, "low"), (high, "high")):
        allowed = problem.allowed[:, column(problem, bits, key)]
        plans.append(torch.where(allowed, bits, pinned))
    if not problem.fits(plans[0]):
        raise Infeasible(
            f"{low} bits everywhere exceed the budget of {problem.average_bits:g} bits. "
            "Raise budget.average_bits or lower allocator.low"
        )
    return plans[0], plans[1]


def lowest_first(problem: AllocationProblem, scores: Tensor, low: int, high: int) -> Allocation:
    """All units start high; those with the lowest scores [U] are lowered in order until the budget is met."""
    down, up = two_widths(problem, low, high)
    order = torch.argsort(scores, stable=True)  # units by ascending score (the ranks would be the argsort of this)
    saved = problem.cost(up) - problem.cost(down)
    freed = saved[order].cumsum(0)
    excess = float(problem.cost(up).sum()) - problem.capacity * (1 + 1e-12)
    count = 0 if excess <= 0 else int(torch.searchsorted(freed, excess)) + 1
    bits = up.clone()
    bits[order[:count]] = down[order[:count]]
    # the last steps may have freed more than needed: raise again the highest-ranked lowered units that still fit
    left = problem.capacity * (1 + 1e-12) - float(problem.cost(bits).sum())
    for unit in reversed(order[max(count - 200, 0) : count].tolist()):
        cost = float(saved[unit])
        if 0 < cost <= left:
            bits[unit], left = up[unit], left - cost
    return Allocation(bits)


def unfair_score(problem: AllocationProblem, unprivileged: str | None, beta: float) -> Tensor:
    """H_unprivileged - beta * H_privileged per weight [U]; with more than two groups, H_privileged is the mean of all others.

    unprivileged None: the group with the largest full-precision loss on calibration images, rather than always group 0.
    UserError where no group has the given name.
    """
    if unprivileged is None:
        losses = problem.ask("fairquantize")(torch.full((len(problem.sizes),), -1))
        unprivileged_group = int(torch.nan_to_num(losses, nan=-1.0).argmax())
    else:
        unprivileged_group = problem.group("allocator.unprivileged", unprivileged)
    others = [group for group in range(len(problem.group_names)) if group != unprivileged_group]
    own_score = problem.group_scores[unprivileged_group]
    privileged_score = problem.group_scores[others].mean(0) if others else torch.zeros_like(own_score)
    return own_score - beta * privileged_score


@dataclass(frozen=True)
class FairQuantize:
    """Score (H_unpriv - beta H_priv) * ||Q_low(w) - w||^2, lowest scores first lowered to `low` bits (FairQuantize, MICCAI
    2024).

    Use it with importance `fisher` (their H is the Gauss-Newton diagonal) and train.rounds for retraining in between.
    unprivileged: the group's name; null: the one with the largest full-precision loss on calibration images.
    The authors' code ranks by argsort where argsort of argsort is needed; here units are taken in the order of their scores.
    """

    unprivileged: str | None = None
    beta: float = 0.5
    low: int = 2
    high: int = 8

    def __post_init__(self) -> None:
        check_widths(self.low, self.high)

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U], low or high. Infeasible where a width is not a choice or the budget cannot be met."""
        error = problem.errors[:, column(problem, self.low, "low")]
        return lowest_first(problem, unfair_score(problem, self.unprivileged, self.beta) * error, self.low, self.high)


@dataclass(frozen=True)
class FairPrune:
    """Saliency 1/2 ||w||^2 (H_unpriv - beta H_priv), lowest first pruned to 0 bits (FairPrune, arXiv 2203.02110).

    high: bits of the remaining units; null: the smallest choice with which about a quarter of the units has to be pruned.
    """

    unprivileged: str | None = None
    beta: float = 0.5
    high: int | None = None

    def __post_init__(self) -> None:
        check_widths(0, self.high)

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U], 0 or high. Infeasible where 0 or `high` is not a choice or the budget cannot be met."""
        wide = [bits for bits in problem.choices if bits >= problem.average_bits * 4 / 3]
        high = self.high or (wide[0] if wide else max(problem.choices))
        energy = problem.errors[:, column(problem, 0, "low")]  # the error of 0 bits is the weight itself
        return lowest_first(problem, 0.5 * energy * unfair_score(problem, self.unprivileged, self.beta), 0, high)


@dataclass(frozen=True)
class FairGrape:
    """Per layer, the group with the largest deficit against its target fraction picks its most important unit next.

    p_g = sum I_g / sum_g' sum I_g' is group g's target fraction of the retained importance (FairGRAPE, arXiv
    2207.10888; units in place of weights). Units picked while the layer's budget lasts get `high` bits, the others
    `low`. Use it with importance `grape`.
    """

    low: int = 2
    high: int = 8

    def __post_init__(self) -> None:
        check_widths(self.low, self.high)

    def allocate(self, problem: AllocationProblem) -> Allocation:
        """Bits [U], low or high. Infeasible where a width is not a choice or the budget cannot be met."""
        down, up = two_widths(problem, self.low, self.high)
        importance = (problem.group_scores * problem.sizes).double().numpy()
        cost = (problem.cost(up) - problem.cost(down)).numpy()
        bits, layers = down.clone(), problem.by_layer()
        spare = problem.capacity * (1 + 1e-12) - float(problem.cost(down).sum())
        fraction = spare / max(float(cost.sum()), 1e-300)  # the same fraction of each layer is raised
        carried = 0.0
        for layer in torch.unique(layers).tolist():
            units = np.flatnonzero((layers == layer).numpy())
            left = fraction * float(cost[units].sum()) + carried
            for unit in pick_order(importance[:, units]):
                if cost[units[unit]] > left:
                    break
                bits[units[unit]] = up[units[unit]]
                left -= cost[units[unit]]
            carried = left  # budget that a layer cannot use passes to the next
        return Allocation(bits)


def pick_order(importance: NDArray[np.float64]) -> list[int]:
    """importance [G, U] -> the U units in the order in which the groups pick them."""
    groups, units = importance.shape
    total = importance.sum()
    target = importance.sum(1) / total if total > 0 else np.full(groups, 1 / groups)
    ranked = np.argsort(-importance, axis=1, kind="stable")
    position, retained = (
        np.zeros(groups, int),
        np.zeros(groups),
    )  # of each group: next in `ranked`, importance picked so far
    taken, order = np.zeros(units, bool), []
    for _ in range(units):
        fraction = retained / retained.sum() if retained.sum() > 0 else np.zeros(groups)
        group = int(np.argmax(target - fraction))
        while taken[ranked[group, position[group]]]:
            position[group] += 1
        unit = int(ranked[group, position[group]])
        taken[unit] = True
        retained += importance[:, unit]
        order.append(unit)
    return order
