"""Training batches: order and augmentation depend on (seed, epoch, image) only, not on the number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fairquant.data.ranks import rank_slice
from fairquant.data.transforms import Augmentation, augmentation
from fairquant.roles import Split
from fairquant.signals import ignore

Sampler = Literal["uniform", "group-balanced", "group-class-balanced"]


@dataclass(frozen=True, eq=False)
class RawBatch:
    """A batch on the CPU, before normalization. labels, groups [B]; rows [B]: indices into the split; images [B, 3, H, W],
    under torchrun only the rank's own slice of them."""

    images: Tensor
    labels: Tensor
    groups: Tensor
    rows: NDArray[np.int64]


class _Augmented(TorchDataset[Tensor]):
    """Image [3, H, W] by (row, seed); the seed determines the augmentation."""

    def __init__(self, split: Split, augment: Augmentation) -> None:
        self.split, self.augment = split, augmentation(augment)
        self.plain = augment == "none"

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        row, seed = key
        image = self.split.images[row]
        if self.plain or image.dtype != torch.uint8:
            return image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.augment(image)


def sampling_chances(split: Split, sampler: Sampler) -> NDArray[np.float64] | None:
    """Probability of drawing each image [N], with replacement: "group-balanced" draws every group equally often,
    "group-class-balanced" every (group, class) pair that occurs. None for "uniform": each image once per epoch."""
    if sampler == "uniform":
        return None
    cells = split.groups if sampler == "group-balanced" else split.groups * (split.labels.max() + 1) + split.labels
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    chances: NDArray[np.float64] = 1.0 / counts[cell]
    chances /= chances.sum()
    return chances


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal goes to all processes of a terminal or job: the parent saves its state, then ends its workers."""
    ignore()


class TrainingBatches:
    """`epoch(e)` yields the batches of epoch e; `epoch(e, skip=k)` leaves out the first k, to resume within an epoch."""

    def __init__(
        self, split: Split, size: int, augment: Augmentation, seed: int, workers: int = 0, sampler: Sampler = "uniform"
    ) -> None:
        self.split, self.size, self.seed = split, size, seed
        self.chances = sampling_chances(split, sampler)
        self._keys: list[list[tuple[int, int]]] = []
        self._loader = DataLoader(
            _Augmented(split, augment), batch_sampler=self._keys, num_workers=workers, collate_fn=torch.stack,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=torch.cuda.is_available() and workers > 0,
        )  # fmt: skip

    def __len__(self) -> int:
        return max(1, len(self.split) // self.size) if len(self.split) >= self.size else 1

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[RawBatch]:
        draw = np.random.default_rng([self.seed, epoch])
        order = (
            draw.permutation(len(self.split)).astype(np.int64)
            if self.chances is None
            else draw.choice(len(self.split), len(self.split), p=self.chances).astype(np.int64)
        )
        seeds = draw.integers(0, 2**62, len(order))
        chunks = [slice(i * self.size, (i + 1) * self.size) for i in range(len(self))][skip:]
        self._keys[:] = [
            list(zip(order[chunk].tolist(), seeds[chunk].tolist(), strict=True))[rank_slice(len(order[chunk]))]
            for chunk in chunks
        ]
        for chunk, images in zip(chunks, self._loader, strict=True):
            rows = order[chunk]
            yield RawBatch(
                images, torch.from_numpy(self.split.labels[rows]), torch.from_numpy(self.split.groups[rows]), rows
            )
