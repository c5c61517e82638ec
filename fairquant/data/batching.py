"""Batches for measurement and evaluation: no augmentation, optionally one group per batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.data.transforms import Normalization
from fairquant.roles import Batch, Split


def stack_images(split: Split, rows: NDArray[np.int64]) -> Tensor:
    """Images of the given rows [B] -> [B, 3, H, W], uint8 or float as the dataset provides them."""
    return torch.stack([split.images[int(row)] for row in rows])


def batches(split: Split, size: int, normalize: Normalization, device: torch.device) -> Iterator[Batch]:
    """The split in order, in batches of at most `size` images [B, 3, H, W], normalized and on `device`."""
    for start in range(0, len(split), size):
        rows = np.arange(start, min(start + size, len(split)))
        yield Batch(
            normalize(stack_images(split, rows).to(device)),
            torch.from_numpy(split.labels[rows]).to(device),
            torch.from_numpy(split.groups[rows]).to(device),
        )


def split_by_group(batch: Batch) -> Iterator[Batch]:
    """One batch per group that occurs in `batch`, in ascending order of the group's number."""
    for group in torch.unique(batch.groups):
        rows = batch.groups == group
        yield Batch(batch.images[rows], batch.labels[rows], batch.groups[rows])


def regroup(stream: Iterable[Batch], groups: int) -> Iterator[Batch]:
    """Re-batch a stream so that every batch holds one group and at most as many images as the stream's own batches.

    Every image is yielded exactly once; incomplete batches come at the end. At most one batch per group is buffered.
    """
    buffers: list[list[Batch]] = [[] for _ in range(groups)]
    size = 0
    for batch in stream:
        size = max(size, len(batch.labels))
        for group_batch in split_by_group(batch):
            group = int(group_batch.groups[0])
            buffers[group].append(group_batch)
            if sum(len(each.labels) for each in buffers[group]) >= size:
                merged = _concat(buffers[group])
                yield Batch(merged.images[:size], merged.labels[:size], merged.groups[:size])
                remainder = Batch(merged.images[size:], merged.labels[size:], merged.groups[size:])
                buffers[group] = [remainder] if len(remainder.labels) else []
    for buffer in buffers:
        if buffer:
            yield _concat(buffer)


def _concat(buffer: list[Batch]) -> Batch:
    if len(buffer) == 1:
        return buffer[0]
    return Batch(
        torch.cat([batch.images for batch in buffer]),
        torch.cat([batch.labels for batch in buffer]),
        torch.cat([batch.groups for batch in buffer]),
    )


def draw_calibration(train: Split, images: int, groups: int, seed: int) -> Split:
    """A reproducible draw of training images: equally many of every group where the group has enough, filled up at random.

    Returns `train` itself where `images` is at least its size.
    """
    if images >= len(train):
        return train
    draw = np.random.default_rng([seed, 0xCA11B])
    order = draw.permutation(len(train))
    per_group = images // max(groups, 1)
    balanced = np.concatenate([order[train.groups[order] == group][:per_group] for group in range(groups)])
    others = order[~np.isin(order, balanced)][: images - len(balanced)]
    return train.subset(draw.permutation(np.concatenate([balanced, others])).astype(np.int64))
