"""Batches for measuring and for evaluating: no augmentation, any grouping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.data.transforms import Normalization
from fairquant.roles import Batch, Split


def stack_images(split: Split, rows: NDArray[np.int64]) -> Tensor:
    """Images of the given rows, [B, 3, H, W], uint8 or float as the dataset gives them."""
    return torch.stack([split.images[int(row)] for row in rows])


def batches(split: Split, size: int, normalize: Normalization, device: torch.device) -> Iterator[Batch]:
    """The split in order, in batches of `size`."""
    for start in range(0, len(split), size):
        rows = np.arange(start, min(start + size, len(split)))
        yield Batch(
            normalize(stack_images(split, rows).to(device)),
            torch.from_numpy(split.labels[rows]).to(device),
            torch.from_numpy(split.groups[rows]).to(device),
        )


def split_by_group(batch: Batch) -> Iterator[Batch]:
    """The parts of a batch that hold one group each."""
    for group in torch.unique(batch.groups):
        rows = batch.groups == group
        yield Batch(batch.images[rows], batch.labels[rows], batch.groups[rows])


def regroup(stream: Iterable[Batch], groups: int) -> Iterator[Batch]:
    """Re-batch a stream so that every batch holds one group, at most the stream's own batch size.

    Every image passes once; what is left of each group comes at the end. Memory: at most one batch per group waits.
    """
    waiting: list[list[Batch]] = [[] for _ in range(groups)]
    size = 0
    for batch in stream:
        size = max(size, len(batch.labels))
        for part in split_by_group(batch):
            group = int(part.groups[0])
            waiting[group].append(part)
            if sum(len(each.labels) for each in waiting[group]) >= size:
                joined = _join(waiting[group])
                yield Batch(joined.images[:size], joined.labels[:size], joined.groups[:size])
                rest = Batch(joined.images[size:], joined.labels[size:], joined.groups[size:])
                waiting[group] = [rest] if len(rest.labels) else []
    for parts in waiting:
        if parts:
            yield _join(parts)


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.groups for part in parts]),
    )


def draw_calibration(train: Split, images: int, groups: int, seed: int) -> Split:
    """A fixed draw of training images: equally many of every group as far as they last, then at random."""
    if images >= len(train):
        return train
    draw = np.random.default_rng([seed, 0xCA11B])
    order = draw.permutation(len(train))
    share = images // max(groups, 1)
    chosen = np.concatenate([order[train.groups[order] == group][:share] for group in range(groups)])
    rest = order[~np.isin(order, chosen)][: images - len(chosen)]
    return train.subset(draw.permutation(np.concatenate([chosen, rest])).astype(np.int64))
