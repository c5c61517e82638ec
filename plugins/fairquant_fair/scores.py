"""Metrics of scores, not of decisions: AUC, calibration, Brier; overall and per group, with fast weighted bootstraps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fairquant.roles import Predictions, Rates
from fairquant_fair.accuracy import Floats, Needs


@dataclass(frozen=True)
class _Scored:
    """What calibration metrics share: a weighted mean serves for the value, each group's and the bootstrap."""

    needs: ClassVar[Needs] = "predictions"
    gap: ClassVar[bool] = False
    lower_is_better: ClassVar[bool] = True

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R]; NaN where there is no weight."""
        raise NotImplementedError

    def evaluate(self, predictions: Predictions) -> Rates:
        """The metric of all images, and of each group alone."""
        groups = np.arange(len(predictions.group_names))
        member = (predictions.groups[None] == groups[:, None]).astype(np.float64)
        everyone = np.ones((1, len(predictions.labels)))
        return Rates(self.weighted(predictions, everyone)[0], self.weighted(predictions, member))


@dataclass(frozen=True)
class Area:
    """A mean of one-vs-rest AUCs and each image's influence on it [N]: value + weights @ influence / N is the value
    under image weights to first order, which is how DeLong's intervals are made (DeLong et al., 1988)."""

    value: float
    influence: Floats


def mean_area(scores: Floats, labels: NDArray[np.int64], min_support: int = 1) -> Area:
    """scores [N, C], labels [N]. Classes with fewer than min_support images on either side are left out."""
    size, areas, influence = len(labels), [], np.zeros(len(labels))
    for c in np.unique(labels):
        positive = labels == c
        count = int(positive.sum())
        if min(count, size - count) < max(min_support, 1):
            continue
        order = np.argsort(scores[:, c])  # of equal scores in any order
        ranked, is_positive = scores[order, c], positive[order]
        run = np.cumsum(np.append(False, ranked[1:] > ranked[:-1]))  # number of each image's run of equal scores
        up = np.bincount(run, weights=is_positive)
        down = np.bincount(run) - up
        below, above = np.cumsum(down) - down / 2, count - np.cumsum(up) + up / 2
        placement = np.where(is_positive, below[run] / (size - count), above[run] / count)
        area = float(placement[is_positive].mean())
        influence[order] += (placement - area) * np.where(is_positive, size / count, size / (size - count))
        areas.append(area)
    return Area(float(np.mean(areas)) if areas else float("nan"), influence / max(len(areas), 1))


def _by_group(predictions: Predictions, min_support: int) -> list[tuple[NDArray[np.bool_], Area]]:
    members = [predictions.groups == group for group in range(len(predictions.group_names))]
    return [(m, mean_area(predictions.probabilities[m], predictions.labels[m], min_support)) for m in members]


@dataclass(frozen=True)
class Auc:
    """Mean over classes of the one-vs-rest area under the ROC curve, ties counted half. Classes without images on
    either side are left out; groups with different classes are therefore not quite comparable."""

    needs: ClassVar[Needs] = "predictions"
    gap: ClassVar[bool] = False

    def evaluate(self, predictions: Predictions) -> Rates:
        value = mean_area(predictions.probabilities, predictions.labels).value
        groups = [area.value for _, area in _by_group(predictions, 1)]
        return Rates(np.asarray(value), np.array(groups))

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        area = mean_area(predictions.probabilities, predictions.labels)
        return np.clip(area.value + weights @ area.influence / len(predictions.labels), 0, 1)


@dataclass(frozen=True)
class WorstGroupAuc:
    """The lowest group AUC. A class counts in a group with at least min_support images on either side; classes of a
    group that do not are counted as skipped."""

    min_support: int = 5
    needs: ClassVar[Needs] = "predictions"
    gap: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.min_support < 1:
            raise ValueError(f"min_support: must be at least 1, got {self.min_support!r}")

    def evaluate(self, predictions: Predictions) -> Rates:
        groups = np.array([area.value for _, area in _by_group(predictions, self.min_support)])
        known = groups[np.isfinite(groups)]
        skipped = 0
        for member in range(len(groups)):
            labels = predictions.labels[predictions.groups == member]
            counts = np.bincount(labels, minlength=predictions.logits.shape[1])
            skipped += int((np.minimum(counts, len(labels) - counts) < self.min_support).sum())
        return Rates(np.asarray(known.min() if len(known) else np.nan), groups, np.asarray(skipped))

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        values = [
            np.clip(area.value + weights[:, member] @ area.influence / member.sum(), 0, 1)
            for member, area in _by_group(predictions, self.min_support)
            if np.isfinite(area.value)
        ]
        return np.min(values, axis=0) if values else np.full(len(weights), np.nan)


@dataclass(frozen=True)
class ExpectedCalibrationError(_Scored):
    """sum over bins of (share of images) |accuracy - mean confidence|, confidence = largest probability; `bins` of equal
    width (Guo et al., arXiv 1706.04599). Biased upwards for small groups: compare groups of like size."""

    bins: int = 15

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins: must be at least 1, got {self.bins!r}")

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        share = predictions.probabilities
        confidence, right = share.max(1), predictions.predicted == predictions.labels
        place = np.minimum((confidence * self.bins).astype(int), self.bins - 1)
        member = np.eye(self.bins)[place]
        surplus = weights @ (member * (right - confidence)[:, None])  # [R, bins]
        with np.errstate(invalid="ignore", divide="ignore"):
            error: Floats = np.abs(surplus).sum(1) / weights.sum(1)
        return error


@dataclass(frozen=True)
class BrierScore(_Scored):
    """Mean over images of sum over classes of (probability - truth)^2, from 0 (best) to 2."""

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        share = predictions.probabilities
        truth = np.eye(share.shape[1])[predictions.labels]
        with np.errstate(invalid="ignore", divide="ignore"):
            score: Floats = weights @ np.square(share - truth).sum(1) / weights.sum(1)
        return score
