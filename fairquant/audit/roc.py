"""ROC curves of two models on the same images: areas, partial areas, and their paired intervals (DeLong).

An area's influence says how much each image contributes: the variance of an area, or of a difference of areas, is the sum
of the variances of the influences of the positive and of the negative images over their numbers (DeLong, DeLong and
Clarke-Pearson, Biometrics 44, 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Area:
    """value, and the influence of each positive [P] and negative [Q] image. NaN and zeros where either is missing."""

    value: float
    positive: Floats
    negative: Floats

    def __sub__(self, other: Area) -> Area:
        return Area(self.value - other.value, self.positive - other.positive, self.negative - other.negative)

    def interval(self, level: float = 0.95, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
        """Normal interval, cut at low and high; NaN with fewer than two images on a side."""
        if min(len(self.positive), len(self.negative)) < 2:
            return float("nan"), float("nan")
        variance = self.positive.var(ddof=1) / len(self.positive) + self.negative.var(ddof=1) / len(self.negative)
        reach = float(norm.isf((1 - level) / 2)) * float(np.sqrt(variance))
        if reach == 0:  # nothing varies among so few images: what could go unseen in all of them
            reach = 1 - (1 - level) ** (1 / min(len(self.positive), len(self.negative)))
        return max(self.value - reach, low), min(self.value + reach, high)


def roc_curve(scores: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold [T + 1], from (0, 0) to (1, 1): scores [N], positive [N]."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits, alarms = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.append(0.0, alarms / (~positive).sum()), np.append(0.0, hits / positive.sum())


def area(scores: Floats, positive: Flags) -> Area:
    """Area under the curve: the chance that a positive image has the higher score; ties count half. scores, positive [N]."""
    return partial_area(scores, positive, specificity_from=0.0)


def partial_area(
    scores: Floats, positive: Flags, specificity_from: float | None = None, sensitivity_from: float | None = None
) -> Area:
    """Area over the specificities (or sensitivities) from the given one on, divided by the width of that region: 1 is perfect.

    The influence counts that the region's edge is estimated, too.
    """
    high, low = scores[positive], scores[~positive]
    if sensitivity_from is not None:  # the same with the sides exchanged
        turned = _partial(-low, -high, 1 - sensitivity_from)
        return Area(turned.value, turned.negative, turned.positive)
    return _partial(high, low, 1 - (specificity_from or 0.0))


def _partial(high: Floats, low: Floats, width: float) -> Area:
    """Area over false positive rates up to `width`, over `width`: scores of positive [P] and of negative [Q] images."""
    if not len(high) or not len(low):
        return Area(float("nan"), np.zeros(len(high)), np.zeros(len(low)))
    order = np.sort(low)
    rank = np.argsort(np.argsort(low, kind="stable"), kind="stable")
    inside = np.clip(rank + 1 - len(low) * (1 - width), 0.0, 1.0)  # the top share of the negatives, one of them in part
    by_high = np.sort(high)
    above = 1 - (np.searchsorted(by_high, low, "left") + np.searchsorted(by_high, low, "right")) / (2 * len(high))
    weight = np.sort(inside) / (len(low) * width)  # of the negatives in ascending order
    cumulative = np.append(0.0, np.cumsum(weight))
    below = (cumulative[np.searchsorted(order, high, "left")] + cumulative[np.searchsorted(order, high, "right")]) / 2
    edge = float(above[np.argmax(np.where(inside > 0, -rank, -len(low) - 1))]) if width < 1 else 0.0
    negative = (above * inside + edge * (1 - inside)) / width
    return Area(float(below.mean()), below, negative)
