"""Never worse than the simple thing: a plan is taken only where uniform bits of the same budget are not better."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairquant.bits.knapsack import relax_and_fill
from fairquant.bits.probe import Outputs, PlanProbe, group_means
from fairquant.errors import Infeasible
from fairquant.roles import Allocation, AllocationProblem


@dataclass(frozen=True, kw_only=True, order=True)
class Deviation:
    """From full precision, of the group where it is largest: the fraction of images that get another class, and the mean divergence
    of the class probabilities (Kullback-Leibler, in nats), which decides between plans that change equally many."""

    changed: float
    divergence: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A plan and uniform bits of the same budget, on `images` images; unseen: whether they are validation images, which no plan was
    made with, or the calibration images. fallback: whether uniform bits are nearer to full precision."""

    plan: Deviation
    uniform: Deviation
    images: int
    unseen: bool = True

    @property
    def fallback(self) -> bool:
        return self.uniform < self.plan

    def __str__(self) -> str:
        plan, uniform = (
            f"{100 * each.changed:.1f} % of images get another class (divergence {each.divergence:.3g})"
            for each in (self.plan, self.uniform)
        )
        kind = "validation images" if self.unseen else "calibration images (those that the plan was made with)"
        where = f"in the worst-served group of {self.images} {kind}"
        numbers = f"the plan against uniform bits, without training, {where}: plan {plan}; uniform bits {uniform}"
        return f"{numbers}. {'Uniform bits are taken in place of the plan' if self.fallback else 'The plan is taken'}"


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


def compare(plan: Allocation, uniform: Allocation, probe: PlanProbe, unseen: bool = True) -> Comparison:
    """A plan and uniform bits, on the probe's images; unseen: whether no plan was made with them."""
    full = probe.outputs(torch.full_like(plan.bits, -1))
    found = [deviation(full, probe.outputs(each.bits)) for each in (plan, uniform)]
    return Comparison(plan=found[0], uniform=found[1], images=len(full.groups), unseen=unseen)


def deviation(full: Outputs, quantized: Outputs) -> Deviation:
    """Of outputs from those in full precision; infinite where they are not finite."""
    changed = (full.logits.argmax(1) != quantized.logits.argmax(1)).double()
    before, after = (each.logits.double().log_softmax(1) for each in (full, quantized))
    divergence = (before.exp() * (before - after)).sum(1).clamp_min(0)
    broken = ~torch.isfinite(quantized.logits).all(1)
    values = [torch.where(broken, torch.inf, each) for each in (changed, divergence)]
    groups = int(full.groups.max()) + 1
    worst = [
        float(group_means(each, full.groups, groups).nan_to_num(nan=-torch.inf, posinf=torch.inf).max())
        for each in values
    ]
    return Deviation(changed=worst[0], divergence=worst[1])
