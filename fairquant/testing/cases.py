"""Small cases to hold components against: every one follows from its numbers alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.roles import AllocationProblem, Batch, Predictions, Step

GROUPS = ("a", "b", "c")


def predictions(seed: int, images: int = 900, groups: int = 3, classes: int = 4) -> Predictions:
    """Better than chance, and not equally for all groups; every class is in every group often enough to count."""
    draw = np.random.default_rng(seed)
    labels, group = draw.integers(0, classes, images), draw.integers(0, groups, images)
    logits = draw.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += (0.5 + group).astype(np.float32)
    return Predictions(logits, labels, group, GROUPS[:groups], tuple("wxyz"[:classes]), tuple(map(str, range(images))))


def problem(
    seed: int, units: int, choices: tuple[int, ...], average: float, groups: int = 3, pinned: int = 0
) -> AllocationProblem:
    """Units of several sizes in a few layers; the first `pinned` of them may only have the largest choice."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(groups, units, generator=draw, dtype=torch.double) ** 4
    steps = 4.0 ** -torch.tensor(choices, dtype=torch.double)
    errors = torch.rand(units, 1, generator=draw, dtype=torch.double) * steps
    sizes = torch.randint(1, 50, (units,), generator=draw)
    allowed = torch.ones(units, len(choices), dtype=torch.bool)
    allowed[:pinned, :-1] = False
    layers = torch.arange(units) * 3 // max(units, 1)

    def probe(bits: Tensor) -> Tensor:
        """A made-up loss of each group: importance-weighted error of the plan; 1 in full precision."""
        lost = torch.where(bits < 0, 0.0, 4.0 ** -bits.double())
        return 1 + (scores * lost * sizes).sum(1) / sizes.sum()

    return AllocationProblem(
        scores.max(0).values, scores, sizes, errors, allowed, choices, average, layers, GROUPS[:groups], probe
    )


def step(seed: int, groups: tuple[int, ...] = (0, 0, 1, 1, 2, 0, 1, 2), group_count: int = 3, classes: int = 4) -> Step:
    """A training step of a few images, with all that a regularizer may ask for."""
    draw = torch.Generator().manual_seed(seed)
    size = len(groups)
    logits = torch.randn(size, classes, generator=draw, dtype=torch.double).requires_grad_(True)
    labels = torch.randint(classes, (size,), generator=draw)
    mixing = torch.randn(classes, 5, generator=draw, dtype=torch.double)
    teacher = torch.randn(size, classes, generator=draw, dtype=torch.double)
    return Step(
        F.cross_entropy(logits, labels, reduction="none"), logits, labels, torch.tensor(groups), group_count,
        features=logits @ mixing, teacher=teacher,
    )  # fmt: skip


def rows(step: Step, order: Tensor) -> Step:
    """The same images in another order."""
    assert step.features is not None
    assert step.teacher is not None
    return Step(
        step.losses[order], step.logits[order], step.labels[order], step.groups[order], step.group_count,
        features=step.features[order], teacher=step.teacher[order],
    )  # fmt: skip


class SmallNetwork(nn.Module):
    """A convolution, a batch norm, a Linear on tokens and a head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
            self.tokens, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.tanh(self.norm(self.stem(images)))
        answer: Tensor = self.head(torch.tanh(self.tokens(seen.flatten(2).transpose(1, 2))).mean(1))
        return answer


def images(seed: int, count: int = 12) -> Batch:
    """Images of three classes and three groups, in float64."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 7, 7, generator=draw, dtype=torch.double)
    return Batch(pixels, torch.randint(3, (count,), generator=draw), torch.arange(count) % 3)


def cut(batch: Batch, size: int) -> list[Batch]:
    parts = zip(*(torch.split(part, size) for part in (batch.images, batch.labels, batch.groups)), strict=True)
    return [Batch(*part) for part in parts]


def chosen(batch: Batch, order: Tensor) -> Batch:
    return Batch(batch.images[order], batch.labels[order], batch.groups[order])


def weights(seed: int, rows: int, columns: int) -> Tensor:
    """Rows of different scales."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * (0.1 + torch.rand(rows, 1, generator=draw))
