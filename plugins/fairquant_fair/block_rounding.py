"""Rounding that is learned block by block, every group alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from fairquant.data.ranks import average_over_ranks
from fairquant.roles import BlockProblem, CannotLearn, Rounded
from fairquant.rounding.learned import LearnedLayer
from fairquant_fair.fair_gptq import FairGptq


@dataclass(frozen=True)
class Block(FairGptq):
    """min over codes, scales and biases of a block: the mean over groups of |block(x) - block_full(x_full)|^2.

    Each layer is first rounded by `fair-gptq`, whose options these are (`rounds` 0: learning serves the groups); once all layers of a
    block are, its weights are learned with rounding in the forward pass (`fairquant.rounding.learned`), so that the block's output is
    the one in full precision, although the blocks before it are rounded (block reconstruction: BRECQ, Li et al., arXiv 2102.05426;
    of all of a block's parameters: EfficientQAT, Chen et al., arXiv 2407.11062). No labels are needed. `steps` of Adam for each
    block, a batch of calibration images each, with a cosine schedule; learning_rate: of the weights, in steps of their grid;
    parameter_learning_rate: of scales, relative to themselves, and of biases. towards_weight: where the weights start, see
    `LearnedLayer`. What was learned is kept where the error over all images is below that of the start.
    """

    rounds: int = 0
    steps: int = 160
    learning_rate: float = 0.03
    parameter_learning_rate: float = 0.001
    towards_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"steps: must not be negative, got {self.steps!r}")
        for name in ("learning_rate", "parameter_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0, got {getattr(self, name)!r}")
        if not 0 <= self.towards_weight < 1:
            raise ValueError(f"towards_weight: must be at least 0 and below 1, got {self.towards_weight!r}")

    def round_block(self, problem: BlockProblem) -> Mapping[str, Rounded]:
        """Layer -> what it becomes; nothing where learning made nothing better. CannotLearn where the block has no gradients."""
        learned = {
            name: LearnedLayer(problem.layers[name], rounded, self.towards_weight)
            for name, rounded in problem.rounded.items()
        }
        shares = _shares(problem)
        before = _error(problem, learned, shares)
        slow = [p for layer in learned.values() for p in (layer.log_scale, layer.bias) if p is not None]
        weights = [layer.latent for layer in learned.values()]
        parameters = [*weights, *slow]
        optimizer = torch.optim.Adam(
            [{"params": weights, "lr": self.learning_rate}, {"params": slow, "lr": self.parameter_learning_rate}]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + cos(pi * step / max(1, self.steps)))
        )
        for step in range(self.steps):
            number = step % len(shares)
            loss = _loss(problem, learned, number, shares[number])
            gradients = _gradients(loss, parameters)
            if gradients is None:
                raise CannotLearn("no gradient reaches their weights from their output")
            for parameter, gradient in zip(parameters, average_over_ranks(gradients), strict=True):
                parameter.grad = gradient
            optimizer.step()
            schedule.step()
        if not _error(problem, learned, shares) < before:
            return {}
        return {name: layer.rounded() for name, layer in learned.items()}


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor] | None:
    """Zeros for parameters that the block's output does not depend on; None where it cannot be differentiated at all."""
    if not loss.requires_grad:
        return None
    try:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    except RuntimeError as error:
        if "modified by an inplace operation" in str(error):
            return None
        raise
    return [
        torch.zeros_like(p) if gradient is None else gradient for p, gradient in zip(parameters, found, strict=True)
    ]


def _shares(problem: BlockProblem) -> list[Tensor]:
    """What each image of each batch counts [B], so that every group counts alike, relative to its own output's size."""
    count = len(problem.group_names)
    images = torch.zeros(count, dtype=torch.float64)
    energy = torch.zeros((), dtype=torch.float64)
    for groups, target in zip(problem.groups, problem.targets, strict=True):
        images += torch.bincount(groups.cpu(), minlength=count)
        energy += target.double().square().sum().cpu()
    images, energy = (each * 1.0 for each in average_over_ranks([images, energy]))
    weight = torch.where(images > 0, 1 / images.clamp_min(1e-30), 0.0)
    scale = images.sum() / energy.clamp_min(1e-30) / (images > 0).sum() * len(problem.groups)
    return [
        (weight[groups.cpu()] * scale).to(target)
        for groups, target in zip(problem.groups, problem.targets, strict=True)
    ]


def _loss(problem: BlockProblem, learned: Mapping[str, LearnedLayer], number: int, shares: Tensor) -> Tensor:
    output = problem.run(number, {name: layer() for name, layer in learned.items()})
    squared = (output - problem.targets[number]).square()
    return ((squared if problem.importance is None else squared * problem.importance).sum(1) * shares).sum()


@torch.no_grad()
def _error(problem: BlockProblem, learned: Mapping[str, LearnedLayer], shares: list[Tensor]) -> float:
    """Over all images."""
    total = torch.stack([_loss(problem, learned, number, each) for number, each in enumerate(shares)]).mean()
    return float(average_over_ranks([total])[0])
