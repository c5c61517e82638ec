"""Accuracies: over images, over classes, of the worst group, and the gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.roles import Confusion, Predictions, Rates

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Supported:
    """What metrics with an option min_support share: a rate of fewer images than that does not count."""

    min_support: int = 1

    def __post_init__(self) -> None:
        if self.min_support < 1:
            raise ValueError(f"min_support: must be at least 1, got {self.min_support!r}")


def group_accuracy(confusion: Confusion) -> Floats:
    """Fraction of correctly classified images of each group [..., G]; NaN for a group without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy: Floats = confusion.hits.sum(-1) / confusion.images
    return accuracy


def nan_spread(values: Floats) -> Floats:
    """max - min over the last axis, ignoring NaN: [..., G] -> [...]; NaN where all entries are."""
    with np.errstate(invalid="ignore"):
        spread: Floats = np.nanmax(values, -1, initial=-np.inf) - np.nanmin(values, -1, initial=np.inf)
    return np.where(np.isfinite(spread), spread, np.nan)


@dataclass(frozen=True)
class Accuracy:
    """Fraction of images classified correctly, over all images (not the mean over groups)."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]."""
        hits = confusion.hits.sum((-2, -1))
        return Rates(hits / confusion.images.sum(-1), group_accuracy(confusion))

    def counted(self, predictions: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """All images, and those that are right [N], [N]."""
        return np.ones(len(predictions.labels), bool), predictions.predicted == predictions.labels


@dataclass(frozen=True)
class GroupMeanAccuracy:
    """Mean over groups of their accuracy; each group counts equally. Groups without images are left out."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]."""
        accuracy = group_accuracy(confusion)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(confusion.images > 0, accuracy, 0.0).sum(-1) / (confusion.images > 0).sum(-1)
        return Rates(mean, accuracy)


@dataclass(frozen=True)
class BalancedAccuracy:
    """Mean recall over the classes that occur."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G], skipped [...]: number of classes without images."""
        truth = confusion.truth.sum(-2)
        overall = _mean_recall(confusion.hits.sum(-2), truth)
        return Rates(overall, _mean_recall(confusion.hits, confusion.truth), (truth == 0).sum(-1))


def _mean_recall(hits: Floats, truth: Floats) -> Floats:
    """hits, truth [..., C] -> mean over the classes that occur [...]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(truth > 0, hits / truth, 0.0)
        mean: Floats = recall.sum(-1) / (truth > 0).sum(-1)
    return mean


@dataclass(frozen=True)
class WorstGroupAccuracy(Supported):
    """The lowest group accuracy. Groups with fewer than min_support images are left out and counted as skipped."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G], skipped [...]: number of groups left out."""
        accuracy, skipped = _supported(confusion, self.min_support)
        worst = np.nanmin(accuracy, -1, initial=np.inf)
        return Rates(np.where(np.isfinite(worst), worst, np.nan), group_accuracy(confusion), skipped)


@dataclass(frozen=True)
class AccuracyGap(Supported):
    """Best minus worst group accuracy. Groups with fewer than min_support images are left out and counted as skipped."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = True

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G], skipped [...]: number of groups left out."""
        accuracy, skipped = _supported(confusion, self.min_support)
        return Rates(nan_spread(accuracy), group_accuracy(confusion), skipped)


def _supported(confusion: Confusion, min_support: int) -> tuple[Floats, NDArray[np.int64]]:
    """Group accuracies [..., G], NaN where a group has too few images, and the number of such groups [...]."""
    small = confusion.images < min_support
    return np.where(small, np.nan, group_accuracy(confusion)), small.sum(-1)
