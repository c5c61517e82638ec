"""Counts behind every threshold metric, and their bootstrap replicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairquant.roles import Predictions

Floats = NDArray[np.float64]


def confusion_tensor(predictions: Predictions) -> Floats:
    """[G, C true, C predicted] counts."""
    groups, classes = len(predictions.group_names), len(predictions.class_names)
    cell = (predictions.groups * classes + predictions.labels) * classes + predictions.predicted
    return np.bincount(cell, minlength=groups * classes**2).reshape(groups, classes, classes).astype(np.float64)


def resample(counts: Floats, replicates: int, draw: np.random.Generator) -> Floats:
    """Bootstrap of images: counts [...] -> [replicates, ...]. Every image stands for its cell."""
    cells = np.repeat(np.arange(counts.size), counts.reshape(-1).astype(np.int64))
    chosen = (
        cells[draw.integers(0, len(cells), (replicates, len(cells)))] if len(cells) else np.zeros((replicates, 0), int)
    )
    return _count(chosen, counts.shape)


def permute_groups(predictions: Predictions, replicates: int, draw: np.random.Generator) -> Floats:
    """Confusion tensors [replicates, G, C, C] with the groups shuffled over the images: what a gap is by chance alone."""
    groups, classes = len(predictions.group_names), len(predictions.class_names)
    cell = predictions.labels * classes + predictions.predicted
    shuffled = draw.permuted(np.broadcast_to(predictions.groups, (replicates, len(cell))), axis=1)
    return _count(shuffled * classes**2 + cell, (groups, classes, classes))


def _count(cells: NDArray[np.int64], shape: tuple[int, ...]) -> Floats:
    """Cell numbers [replicates, N] -> counts [replicates, *shape]."""
    size = int(np.prod(shape))
    offsets = np.arange(len(cells))[:, None] * size
    counts = np.bincount((cells + offsets).ravel(), minlength=len(cells) * size)
    return counts.reshape(len(cells), *shape).astype(np.float64)


def in_parts(total: int, cells: int) -> list[int]:
    """Replicates to draw at a time, so that a part stays in the processor's cache."""
    step = max(1, min(total, 400_000 // max(cells, 1)))
    return [min(step, total - start) for start in range(0, total, step)]
