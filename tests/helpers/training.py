"""A split of a few small images, and a network bound to it: for training that takes milliseconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fairquant.data.transforms import Normalization
from fairquant.roles import Split
from fairquant.training.model import Model

GROUPS, CLASSES = ("dark", "light"), ("mole", "wart")


class Images:
    """uint8 images [3, 8, 8] of noise, brighter where the label is 1."""

    def __init__(self, labels: np.ndarray) -> None:
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 120, (len(labels), 3, 8, 8), generator=draw, dtype=torch.uint8)
        self.pixels = pixels + torch.from_numpy(labels * 100).to(torch.uint8)[:, None, None, None]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pixels[index]


def small_split(count: int = 32) -> Split:
    """Labels 0, 1, 0, 1, ...; the first half in group 0."""
    labels = (np.arange(count) % 2).astype(np.int64)
    groups = (np.arange(count) * 2 // count).astype(np.int64)
    return Split(Images(labels), labels, groups, tuple(f"image {row}" for row in range(count)))


def bound(network: nn.Module) -> Model:
    """The network with what a training needs to know of it."""
    return Model(
        network=network, normalization=Normalization((0.5,) * 3, (0.25,) * 3), device=torch.device("cpu"),
        group_names=GROUPS, class_names=CLASSES,
    )  # fmt: skip


def small_network(seed: int = 0) -> nn.Sequential:
    """A convolution with batch norm and a head."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
