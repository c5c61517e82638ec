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


def resample(counts: Floats, replicates: int, seed: int) -> Floats:
    """Bootstrap of images: counts [...] -> [replicates, ...].

    Drawing N images with replacement is one multinomial draw over the cells; only cells that hold images take part.
    """
    flat = counts.reshape(-1)
    filled = np.flatnonzero(flat)
    total = int(flat.sum())
    drawn = np.zeros((replicates, flat.size))
    if total:
        draw = np.random.default_rng([seed, 0xB007])
        drawn[:, filled] = draw.multinomial(total, flat[filled] / total, size=replicates)
    return drawn.reshape(replicates, *counts.shape)


def permute_groups(predictions: Predictions, replicates: int, seed: int) -> Floats:
    """Confusion tensors [replicates, G, C, C] with the groups shuffled over the images: what a gap is by chance alone."""
    groups, classes = len(predictions.group_names), len(predictions.class_names)
    draw = np.random.default_rng([seed, 0x9011])
    cell = predictions.labels * classes + predictions.predicted
    found = np.empty((replicates, groups, classes, classes))
    for replicate in range(replicates):
        shuffled = draw.permutation(predictions.groups)
        counts = np.bincount(shuffled * classes**2 + cell, minlength=groups * classes**2)
        found[replicate] = counts.reshape(groups, classes, classes)
    return found
