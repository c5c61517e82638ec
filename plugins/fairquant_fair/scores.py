"""Metrics of scores rather than decisions: AUC, calibration, Brier; overall and per group, with fast weighted bootstraps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from fairquant.roles import Predictions, Rates
from fairquant_fair.accuracy import Floats, Supported

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Scored:
    """What calibration metrics share: one weighted mean gives the value, each group's value and the bootstrap."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False
    lower_is_better: ClassVar[bool] = True

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R]; NaN where all weights are 0."""
        raise NotImplementedError

    def evaluate(self, predictions: Predictions) -> Rates:
        """value: the metric of all images, a scalar []; by_group [G]: of each group's images."""
        groups = np.arange(len(predictions.group_names))
        member = (predictions.groups[None] == groups[:, None]).astype(np.float64)
        everyone = np.ones((1, len(predictions.labels)))
        return Rates(self.weighted(predictions, everyone)[0], self.weighted(predictions, member))


@dataclass(frozen=True)
class ClassAreas:
    """One-vs-rest AUC of each class [C] (NaN where one side has no images), the number of images on the smaller side [C],
    and the influence of each image [C, N]: value + weights @ influence / N is the value under image weights to first
    order, the basis of DeLong's intervals (DeLong et al., 1988)."""

    value: Floats
    support: Ints
    influence: Floats

    def mean(self, min_support: int = 1) -> tuple[float, Floats]:
        """Mean over the classes with at least min_support images on each side, and its influence [N]."""
        counted = self.support >= min_support
        if not counted.any():
            return float("nan"), np.zeros(self.influence.shape[1])
        return float(self.value[counted].mean()), self.influence[counted].mean(0)


def class_areas(scores: Floats, labels: Ints) -> ClassAreas:
    """scores [N, C], labels [N]. Ties count half."""
    size, classes = scores.shape
    count = np.bincount(labels, minlength=classes)
    value, influence = np.full(classes, np.nan), np.zeros((classes, size))
    for c in np.flatnonzero((count > 0) & (count < size)):
        order = np.argsort(scores[:, c])  # the order among equal scores does not matter
        ranked, is_positive = scores[order, c], labels[order] == c
        run = np.cumsum(np.append(False, ranked[1:] > ranked[:-1]))  # number of each image's run of equal scores
        positives = np.bincount(run, weights=is_positive)
        negatives = np.bincount(run) - positives
        below, above = np.cumsum(negatives) - negatives / 2, count[c] - np.cumsum(positives) + positives / 2
        placement = np.where(is_positive, below[run] / (size - count[c]), above[run] / count[c])
        value[c] = placement[is_positive].mean()
        factor = np.where(is_positive, size / count[c], size / (size - count[c]))
        influence[c, order] = (placement - value[c]) * factor
    return ClassAreas(value, np.minimum(count, size - count), influence)


def overall(predictions: Predictions) -> tuple[float, Floats, int]:
    """Mean AUC of all images, how much it changes with the weight of each image [N], and the number of classes without images on
    either side."""
    areas = class_areas(predictions.probabilities, predictions.labels)
    value, influence = areas.mean()
    return value, influence / max(len(predictions.labels), 1), int((areas.support == 0).sum())


def group_areas(predictions: Predictions) -> tuple[tuple[Ints, ClassAreas], ...]:
    """For each group, the rows of its images [n] and the areas computed from them."""
    members = [np.flatnonzero(predictions.groups == group) for group in range(len(predictions.group_names))]
    return tuple((rows, class_areas(predictions.probabilities[rows], predictions.labels[rows])) for rows in members)


def by_group(predictions: Predictions, min_support: int) -> list[tuple[float, Ints, Floats]]:
    """For each group with enough support: its mean AUC, the rows of its images [n], and how much the AUC changes with the
    weight of each of them [n]."""
    groups = []
    for rows, areas in predictions.shared(group_areas):
        value, influence = areas.mean(min_support)
        if np.isfinite(value):
            groups.append((value, rows, influence / len(rows)))
    return groups


@dataclass(frozen=True)
class Auc:
    """Mean over classes of the one-vs-rest area under the ROC curve, ties counted half. Classes without images on
    either side are left out; groups with different classes are therefore not fully comparable."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, predictions: Predictions) -> Rates:
        """value and skipped, scalars []: classes without images on either side; by_group [G]."""
        value, _, absent = predictions.shared(overall)
        groups = np.array([areas.mean()[0] for _, areas in predictions.shared(group_areas)])
        return Rates(np.asarray(value), groups, np.asarray(absent))

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R], to first order in the weights."""
        value, influence, _ = predictions.shared(overall)
        areas: Floats = np.clip(value + weights @ influence, 0, 1)
        return areas


@dataclass(frozen=True)
class WorstGroupAuc(Supported):
    """The lowest group AUC. A class counts in a group with at least min_support images on either side; classes of a
    group that do not are counted as skipped."""

    min_support: int = 5
    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, predictions: Predictions) -> Rates:
        """value and skipped, scalars []; by_group [G]."""
        areas = [areas for _, areas in predictions.shared(group_areas)]
        groups = np.array([each.mean(self.min_support)[0] for each in areas])
        known = groups[np.isfinite(groups)]
        skipped = sum(int((each.support < self.min_support).sum()) for each in areas)
        return Rates(np.asarray(known.min() if len(known) else np.nan), groups, np.asarray(skipped))

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R], to first order in the weights."""
        values: list[Floats] = [
            np.clip(value + weights[:, rows] @ influence, 0, 1)
            for value, rows, influence in predictions.shared(by_group, self.min_support)
        ]
        worst: Floats = np.min(values, axis=0) if values else np.full(len(weights), np.nan)
        return worst


def surplus_by_bin(predictions: Predictions, bins: int) -> csc_array:
    """(1 if correct, else 0) - confidence of each image in its bin of confidence, 0 in the other bins [bins, N]."""
    confidence, correct = predictions.probabilities.max(1), predictions.predicted == predictions.labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    size = len(number)
    return csr_array((correct - confidence, number, np.arange(size + 1)), shape=(size, bins)).T


def squared_errors(predictions: Predictions) -> Floats:
    """Sum over classes of (probability - truth)^2 of each image [N]."""
    probabilities = predictions.probabilities
    truth = np.eye(probabilities.shape[1])[predictions.labels]
    errors: Floats = np.square(probabilities - truth).sum(1)
    return errors


@dataclass(frozen=True)
class ExpectedCalibrationError(_Scored):
    """sum over bins of (fraction of images) |accuracy - mean confidence|, confidence = largest probability; `bins` of equal
    width (Guo et al., arXiv 1706.04599). Biased upwards for small groups: compare groups of similar size."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    bins: int = 15

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins: must be at least 1, got {self.bins!r}")

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R]; NaN where all weights are 0."""
        surplus: Floats = predictions.shared(surplus_by_bin, self.bins) @ weights.T  # [bins, R]
        with np.errstate(invalid="ignore", divide="ignore"):
            error: Floats = np.abs(surplus).sum(0) / weights.sum(1)
        return error


@dataclass(frozen=True)
class BrierScore(_Scored):
    """Mean over images of sum over classes of (probability - truth)^2, from 0 (best) to 2."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R]; NaN where all weights are 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            score: Floats = weights @ predictions.shared(squared_errors) / weights.sum(1)
        return score
