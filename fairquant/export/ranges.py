"""Ranges of activations for int8: by a rule, for every group, and what they clip of each group.

A range that is calibrated on all images pooled may clip the activations of the smaller group. Histograms are therefore
kept per group, in a stream (nothing is held but the histograms), and with `coverage` groups a range covers what the rule
asks for of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError

Method = Literal["minmax", "percentile", "entropy"]
Coverage = Literal["groups", "all"]
Floats = NDArray[np.float64]
Range = tuple[float, float]
#: images [N, 3, H, W] -> one array for each tensor (Any: of the tensor's own number type).
RunGraph = Callable[[NDArray[np.float32]], Sequence[Any]]
#: Bins of a histogram, levels of an activation, and the fraction of activations that `percentile` keeps.
BINS, LEVELS, KEPT = 2048, 256, 0.9999


@dataclass(frozen=True)
class Calibration:
    """images: batches [N, 3, H, W], normalised; groups: of each batch [N], or none; group_names [G]."""

    images: Sequence[NDArray[np.float32]]
    groups: Sequence[NDArray[np.int64]] = ()
    group_names: tuple[str, ...] = ("all",)

    def batches(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Images [N, 3, H, W] and their groups [N], batch by batch."""
        for number, images in enumerate(self.images):
            yield images, self.groups[number] if self.groups else np.zeros(len(images), np.int64)


@dataclass(frozen=True)
class Ranges:
    """bounds: tensor -> (low, high). clipped: group -> fraction of its activations outside, mean over tensors and the worst."""

    bounds: Mapping[str, Range]
    clipped: Mapping[str, tuple[float, float]]


def find_ranges(
    run: RunGraph, tensors: Sequence[str], calibration: Calibration,
    method: Method = "percentile", coverage: Coverage = "groups",
) -> Ranges:  # fmt: skip
    """run: images [N, 3, H, W] -> the tensors' values. They are run twice: for each tensor's ends, then its histogram."""
    ends = _ends(run, tensors, calibration)
    counts = {tensor: np.zeros((len(calibration.group_names), BINS)) for tensor in tensors}
    for images, groups in calibration.batches():
        for tensor, values in zip(tensors, run(images), strict=True):
            _count(counts[tensor], values, groups, ends[tensor])
    bounds, outside = {}, []
    for tensor in tensors:
        histogram = counts[tensor]
        rows = [histogram.sum(0)] if coverage == "all" else [row for row in histogram if row.any()]
        each = [RULES[method](row, ends[tensor]) for row in rows]
        bounds[tensor] = min(low for low, _ in each), max(high for _, high in each)
        outside.append(_outside(histogram, ends[tensor], bounds[tensor]))
    fractions = np.array(outside)  # [tensors, G]
    seen = {int(group) for _, groups in calibration.batches() for group in groups}
    clipped = {
        calibration.group_names[group]: (float(fractions[:, group].mean()), float(fractions[:, group].max()))
        for group in sorted(seen)
    }
    return Ranges(bounds, clipped)


def _ends(run: RunGraph, tensors: Sequence[str], calibration: Calibration) -> dict[str, Range]:
    low, high = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for images, _ in calibration.batches():
        values_of = run(images)
        low = np.minimum(low, [values.min() for values in values_of])
        high = np.maximum(high, [values.max() for values in values_of])
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError("int8 activations: the model gives values that are not finite on the calibration images")
    # the grid of levels contains 0, and a constant tensor still needs a width
    return {
        tensor: (min(float(least), 0.0), max(float(most), 0.0, float(least) + 1e-6))
        for tensor, least, most in zip(tensors, low, high, strict=True)
    }


def _count(counts: Floats, values: NDArray[np.float32], groups: NDArray[np.int64], ends: Range) -> None:
    """Add values [N, ...] to their groups' histograms [G, BINS]; a tensor without the batch in front counts for all."""
    low, high = ends
    flat = values.reshape(len(groups), -1) if values.ndim and len(values) == len(groups) else values.reshape(1, -1)
    members = [(int(group), flat[groups == group]) for group in np.unique(groups)] if len(flat) == len(groups) else [
        (int(group), flat) for group in np.unique(groups)
    ]  # fmt: skip
    for group, own in members:
        place = ((own.ravel() - low) * (BINS / (high - low))).astype(np.int32)
        counts[group] += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)


def _edges(ends: Range) -> Floats:
    return np.linspace(*ends, BINS + 1)


def _minmax(counts: Floats, ends: Range) -> Range:
    """From the first bin with a value to the last."""
    edges, used = _edges(ends), np.flatnonzero(counts)
    return float(min(edges[used[0]], 0.0)), float(max(edges[used[-1] + 1], 0.0))


def _percentile(counts: Floats, ends: Range) -> Range:
    """All but (1 - KEPT) of the values, half of these at either end."""
    edges, total = _edges(ends), np.cumsum(counts) / counts.sum()
    low = edges[np.searchsorted(total, (1 - KEPT) / 2, side="right")]
    high = edges[np.searchsorted(total, 1 - (1 - KEPT) / 2, side="left") + 1]
    return float(min(low, 0.0)), float(max(high, 0.0))


def _entropy(counts: Floats, ends: Range) -> Range:
    """The cut-off on the absolute value that loses the least information: KL(values, values on LEVELS levels), after
    Migacz, 8-bit inference with TensorRT (2017). Zero, often exact after ReLU, is left out of account."""
    from scipy.stats import entropy

    edges = _edges(ends)
    middle = int(np.clip(np.searchsorted(edges, 0.0, side="right") - 1, 0, BINS - 1))
    fractions = counts.copy()
    fractions[middle] = 0
    if not fractions.any():
        return _minmax(counts, ends)
    reach = max(middle, BINS - 1 - middle)
    best, cut = np.inf, reach
    for width in np.unique(np.linspace(LEVELS // 2, reach, 64).astype(int)) if reach > LEVELS // 2 else [reach]:
        first, last = max(middle - width, 0), min(middle + width, BINS - 1)
        inside = fractions[first : last + 1]
        clipped = inside.copy()
        clipped[0] += fractions[:first].sum()
        clipped[-1] += fractions[last + 1 :].sum()
        level = np.arange(len(inside)) * LEVELS // max(len(inside), LEVELS)
        used = inside > 0
        mean = np.bincount(level, inside) / np.maximum(np.bincount(level, used), 1)
        levelled = np.where(used, mean[level], 0.0)
        wanted, given = clipped + 1e-9 * clipped.sum(), levelled + 1e-9 * clipped.sum()
        lost = float(entropy(wanted, given)) if levelled.any() else np.inf
        if lost < best:
            best, cut = lost, width
    return float(min(edges[max(middle - cut, 0)], 0.0)), float(max(edges[min(middle + cut, BINS - 1) + 1], 0.0))


RULES: dict[str, Callable[[Floats, Range], Range]] = {
    "minmax": _minmax, "percentile": _percentile, "entropy": _entropy,
}  # fmt: skip


def _outside(counts: Floats, ends: Range, bounds: Range) -> Floats:
    """Fraction of each group's values beyond the bounds [G]."""
    edges = _edges(ends)
    beyond = (edges[1:] <= bounds[0]) | (edges[:-1] >= bounds[1])
    total = counts.sum(1)
    fractions: Floats = counts[:, beyond].sum(1) / np.maximum(total, 1)
    return fractions
