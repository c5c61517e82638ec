"""Small generated inputs for the checks; each is a function of its arguments only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.roles import AllocationProblem, Batch, Predictions, Step

GROUPS = ("a", "b", "c")


def predictions(seed: int, images: int = 900, groups: int = 3, classes: int = 4) -> Predictions:
    """Better than chance, by an amount that depends on the group; every class is frequent in every group."""
    draw = np.random.default_rng(seed)
    labels, group = draw.integers(0, classes, images), draw.integers(0, groups, images)
    logits = draw.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += (0.5 + group).astype(np.float32)
    return Predictions(
        logits=logits,
        labels=labels,
        groups=group,
        group_names=GROUPS[:groups],
        class_names=tuple("wxyz"[:classes]),
        ids=tuple(map(str, range(images))),
    )


def problem(
    seed: int, units: int, choices: tuple[int, ...], average: float, groups: int = 3, pinned: int = 0
) -> AllocationProblem:
    """Units of different sizes in three layers; the first `pinned` units are only allowed the largest choice."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(groups, units, generator=draw, dtype=torch.double) ** 4
    steps = 4.0 ** -torch.tensor(choices, dtype=torch.double)
    errors = torch.rand(units, 1, generator=draw, dtype=torch.double) * steps
    sizes = torch.randint(1, 50, (units,), generator=draw)
    allowed = torch.ones(units, len(choices), dtype=torch.bool)
    allowed[:pinned, :-1] = False
    layers = torch.arange(units) * 3 // max(units, 1)

    def probe(bits: Tensor) -> Tensor:
        """A made-up loss of each group [G] at bits [U]: 1 in full precision, plus the importance-weighted error."""
        error = torch.where(bits < 0, 0.0, 4.0 ** -bits.double())
        return 1 + (scores * error * sizes).sum(1) / sizes.sum()

    return AllocationProblem(
        scores=scores.max(0).values,
        group_scores=scores,
        sizes=sizes,
        errors=errors,
        allowed=allowed,
        choices=choices,
        average_bits=average,
        layers=layers,
        group_names=GROUPS[:groups],
        probe=probe,
    )


def step(seed: int, groups: tuple[int, ...] = (0, 0, 1, 1, 2, 0, 1, 2), group_count: int = 3, classes: int = 4) -> Step:
    """A training step of a few images in float64, with features and teacher logits."""
    draw = torch.Generator().manual_seed(seed)
    size = len(groups)
    logits = torch.randn(size, classes, generator=draw, dtype=torch.double).requires_grad_(True)
    labels = torch.randint(classes, (size,), generator=draw)
    mixing = torch.randn(classes, 5, generator=draw, dtype=torch.double)
    teacher = torch.randn(size, classes, generator=draw, dtype=torch.double)
    return Step(
        losses=F.cross_entropy(logits, labels, reduction="none"),
        logits=logits,
        labels=labels,
        groups=torch.tensor(groups),
        group_count=group_count,
        features=logits @ mixing,
        teacher=teacher,
    )


def reorder_step(step: Step, order: Tensor) -> Step:
    """The images of a step in the order of the rows [B]."""
    assert step.features is not None
    assert step.teacher is not None
    return Step(
        losses=step.losses[order],
        logits=step.logits[order],
        labels=step.labels[order],
        groups=step.groups[order],
        group_count=step.group_count,
        features=step.features[order],
        teacher=step.teacher[order],
    )


class SmallNetwork(nn.Module):
    """A convolution, a batch norm, a Linear on tokens and a head, in float64: images [B, 3, H, W] -> logits [B, 3]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
            self.tokens, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> logits [B, 3]."""
        features = torch.tanh(self.norm(self.stem(images)))
        logits: Tensor = self.head(torch.tanh(self.tokens(features.flatten(2).transpose(1, 2))).mean(1))
        return logits


def images(seed: int, count: int = 12) -> Batch:
    """Images [count, 3, 7, 7] of three classes and three groups, in float64."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 7, 7, generator=draw, dtype=torch.double)
    return Batch(pixels, torch.randint(3, (count,), generator=draw), torch.arange(count) % 3)


def split_batch(batch: Batch, size: int) -> list[Batch]:
    """Consecutive batches of at most `size` images."""
    tensors = zip(*(torch.split(tensor, size) for tensor in (batch.images, batch.labels, batch.groups)), strict=True)
    return [Batch(images, labels, groups) for images, labels, groups in tensors]


def reorder_batch(batch: Batch, order: Tensor) -> Batch:
    """The images of a batch in the order of the rows [B]."""
    return Batch(batch.images[order], batch.labels[order], batch.groups[order])


def weights(seed: int, rows: int, columns: int) -> Tensor:
    """A weight [rows, columns] whose rows differ in scale."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * (0.1 + torch.rand(rows, 1, generator=draw))
