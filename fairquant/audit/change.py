"""What compression changed on the same images: accuracy, and which predictions, overall and by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairquant.audit import paired
from fairquant.audit.paired import wilson
from fairquant.errors import UserError
from fairquant.roles import Predictions

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Change:
    """One quantity of the comparison with full precision: overall and by group, each with its interval."""

    value: float
    low: float
    high: float
    by_group: dict[str, dict[str, float]]


def group_intervals(predictions: Predictions) -> dict[str, tuple[float, float, float]]:
    """Accuracy of each group with its interval (Wilson): name -> (value, low, high)."""
    right = predictions.predicted == predictions.labels
    hits, images = _by_group(right, predictions), _by_group(np.ones_like(right), predictions)
    low, high = wilson(hits, images, LEVEL)
    return {
        name: (_over(hits[group], images[group]), float(low[group]), float(high[group]))
        for group, name in enumerate(predictions.group_names)
    }


def change_against(predictions: Predictions, baseline: Predictions) -> dict[str, Change]:
    """Paired comparison on the same images, overall and by group.

    accuracy: now minus baseline (Tango's interval); flips: changed predictions; harmful_flips: newly misclassified (Wilson).
    Fractions of images. Raises UserError where the images differ.
    """
    if not np.array_equal(predictions.labels, baseline.labels):
        raise UserError("the two predictions are not of the same images")
    before, now = baseline.predicted == baseline.labels, predictions.predicted == predictions.labels
    lost, gained, flipped, images = (
        _with_total(_by_group(rows, predictions))
        for rows in (before & ~now, now & ~before, baseline.predicted != predictions.predicted, np.ones_like(now))
    )
    low, high = paired.interval(lost, gained, images)
    changes = {"accuracy": _change(gained - lost, images, (-high, -low), predictions.group_names)}
    for name, counts in {"flips": flipped, "harmful_flips": lost}.items():
        changes[name] = _change(counts, images, wilson(counts, images, LEVEL), predictions.group_names)
    return changes


def _change(counts: Floats, images: Floats, ends: tuple[Floats, Floats], names: tuple[str, ...]) -> Change:
    """counts, images [1 + G], and the ends of the intervals [1 + G]: all images first, then each group."""
    rows = [
        {"value": _over(counts[row], images[row]), "low": float(ends[0][row]), "high": float(ends[1][row])}
        for row in range(len(images))
    ]
    return Change(**rows[0], by_group=dict(zip(names, rows[1:], strict=True)))


def _by_group(rows: NDArray[np.bool_], predictions: Predictions) -> Floats:
    """How many of the rows [N] are in each group [G]."""
    return np.bincount(predictions.groups[rows], minlength=len(predictions.group_names)).astype(np.float64)


def _with_total(counts: Floats) -> Floats:
    """[G] -> [1 + G], the sum first."""
    return np.concatenate([counts.sum(keepdims=True), counts])


def _over(count: float, images: float) -> float:
    return float(count / images) if images else float("nan")
