"""Never worse than the simple thing: a plan is taken only where uniform bits of the same budget are not better."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairquant.bits.knapsack import relax_and_fill
from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem
from fairquant.roles.allocator import Probe


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far a plan and uniform bits of the same budget move the class probabilities of the worst-served group: divergence from
    full precision in nats, on `images` calibration images. fallback: whether uniform bits were taken."""

    plan: float
    uniform: float
    images: int

    @property
    def fallback(self) -> bool:
        return not self.plan <= self.uniform

    def __str__(self) -> str:
        numbers = (
            f"divergence of the worst-served group from full precision, {self.images} calibration images: "
            f"plan {self.plan:.3g}, uniform bits {self.uniform:.3g}"
        )
        return f"{numbers}. Uniform bits are taken in place of the plan" if self.fallback else numbers


def uniform_bits(problem: AllocationProblem) -> Tensor:
    """The same bits for every unit [U], the most that the budget has; what is left of it goes, one choice more, to the units
    whose errors are the largest, whatever their importance. Infeasible where no choice fits everywhere."""
    for number in reversed(range(len(problem.choices))):
        allowed = torch.zeros_like(problem.allowed)
        allowed[:, number] = problem.allowed[:, number]
        lacking = ~allowed.any(1)  # pinned layers keep theirs
        allowed[lacking] = problem.allowed[lacking]
        fewest = torch.tensor(problem.choices)[allowed.int().argmax(1)]
        if not problem.fits(fewest):
            continue
        if number + 1 < len(problem.choices):
            allowed[~lacking, number + 1] = problem.allowed[~lacking, number + 1]
        constraint = replace(problem.constraint(), allowed=allowed.numpy())
        solution = relax_and_fill(problem.errors.numpy(), constraint)
        return torch.tensor(problem.choices)[torch.from_numpy(solution.choice)]
    raise Infeasible("no width fits everywhere")


def compare(plan: Allocation, uniform: Allocation, probe: Probe, images: int) -> Comparison:
    """A plan and uniform bits. probe: the divergence of each group, on so many images."""
    return Comparison(plan=_worst(probe(plan.bits)), uniform=_worst(probe(uniform.bits)), images=images)


def _worst(divergences: Tensor) -> float:
    """Of the groups that have images; infinite where the network's outputs are not finite."""
    known = divergences[~torch.isnan(divergences)]
    return float(known.max()) if len(known) else float("inf")
