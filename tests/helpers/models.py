"""Small models and small data, and an allocation problem of a model's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.problem import BitChoices, make_problem, squared_errors


class Strange(nn.Module):
    """What a model from elsewhere may contain: grouped, depthwise, padded and strided convolutions, a weight shared by two
    modules, a module called twice, a Linear on tokens, attention, no biases, an
    activation in place, a frozen layer, a batch norm."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="circular")
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.twice = nn.Linear(8, 8, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.depthwise(F.relu(self.grouped(F.relu(self.norm(self.stem(images)))), inplace=True))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = F.gelu(self.second(F.gelu(self.first(tokens))))
        tokens = tokens + self.twice(F.gelu(self.twice(tokens)))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(F.gelu(self.frozen(tokens.mean(1))))


class Small(nn.Module):
    """Two convolutions and a head: quick to train."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.one(images)), 2)
        return self.head(F.relu(self.two(x)).mean((2, 3)))


def problem_of(layers, importance, scores, quantizer, choices, budget):
    """An allocation problem with the errors of the quantizer. choices: free widths."""
    errors = squared_errors(layers, quantizer, choices)
    return make_problem(layers, importance, scores, errors, BitChoices(choices), budget)


class Triples:
    """A data set of (image, label, group): a bright square tells the class, its contrast depends on the group."""

    def __init__(self, count: int, seed: int, classes: int = 2, groups: int = 2, size: int = 12) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(classes, (count,), generator=draw)
        self.groups = torch.randint(groups, (count,), generator=draw)
        self.images = torch.randn(count, 3, size, size, generator=draw) * 0.4
        for row in range(count):
            start = 2 + 3 * int(self.labels[row])
            self.images[row, :, start : start + 3, 2:8] += 1.5 / (1 + int(self.groups[row]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.images[index], int(self.labels[index]), int(self.groups[index])
