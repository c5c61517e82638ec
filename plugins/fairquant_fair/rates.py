"""Gaps of one-vs-rest rates between groups, under the three conventions in use.

valid (ours): a cell (group, class) counts only where its rate is computed from at least min_support images; gaps are
max - min over the groups that count, averaged over the classes where at least two do; `skipped` counts cells left out.
fairprune (FairPrune, arXiv 2203.02110; FairQuantize, MICCAI 2024): two groups, a class absent from a group has rate 0.
fairquant (the official code of FairQuant, arXiv 2602.23192): max - min over groups, a class absent from any group has
gap 0. Under the last two `skipped` counts the cells without images, of which they know nothing either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.roles import Confusion, Rates
from fairquant_fair.accuracy import Floats, Supported, nan_spread

Convention = Literal["valid", "fairprune", "fairquant"]
Gaps = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True)
class Cells:
    """One-vs-rest rates [..., G, C] and the number of images that each is computed from [..., G, C]."""

    rate: Floats
    support: Floats


def true_positive(confusion: Confusion) -> Cells:
    """True positive rates, TP / (TP + FN) [..., G, C]."""
    return Cells(_ratio(confusion.hits, confusion.truth), confusion.truth)


def false_positive(confusion: Confusion) -> Cells:
    """False positive rates, FP / (FP + TN) [..., G, C]."""
    support = confusion.images[..., None] - confusion.truth
    return Cells(_ratio(confusion.predicted - confusion.hits, support), support)


def true_negative(confusion: Confusion) -> Cells:
    """True negative rates, TN / (FP + TN) [..., G, C]."""
    false_alarms = confusion.shared(false_positive)
    return Cells(1 - false_alarms.rate, false_alarms.support)


def prediction_rate(confusion: Confusion) -> Cells:
    """Prediction rates P(predicted = c | group) [..., G, C]."""
    support = np.broadcast_to(confusion.images[..., None], confusion.truth.shape)
    return Cells(_ratio(confusion.predicted, support), support)


def positive_value(confusion: Confusion) -> Cells:
    """Positive predictive values, TP / (TP + FP) [..., G, C]."""
    return Cells(_ratio(confusion.hits, confusion.predicted), confusion.predicted)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """[..., G, C]; NaN or inf where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = numerator / denominator
    return ratio


Rate = Callable[[Confusion], Cells]


def gaps_of(confusion: Confusion, rate: Rate, convention: Convention, min_support: int) -> Gaps:
    """`class_gaps` of a rate: true_positive and its like."""
    return class_gaps(confusion.shared(rate), convention, min_support)


def mean_of(confusion: Confusion, rate: Rate, min_support: int) -> Floats:
    """Each group's rate: the mean over its classes with enough support [..., G]."""
    cells = confusion.shared(rate)
    return mean_gap(np.where(cells.support >= min_support, cells.rate, np.nan))


def class_gaps(cells: Cells, convention: Convention, min_support: int) -> Gaps:
    """Gap of each class [..., C] (NaN: does not count) and the number of cells skipped [...]."""
    if convention == "fairquant":
        absent = (cells.support == 0).any(-2)
        with np.errstate(invalid="ignore"):
            gaps = cells.rate.max(-2) - cells.rate.min(-2)
        return np.where(absent, 0.0, gaps), (cells.support == 0).sum((-2, -1))
    if convention == "fairprune":
        rate = np.where(cells.support == 0, 0.0, cells.rate)
        return np.abs(rate[..., 0, :] - rate[..., 1, :]), (cells.support == 0).sum((-2, -1))
    small = cells.support < min_support
    rate = np.where(small, np.nan, cells.rate)
    gaps = nan_spread(np.moveaxis(rate, -2, -1))
    gaps = np.where((~small).sum(-2) >= 2, gaps, np.nan)
    return gaps, small.sum((-2, -1))


def mean_gap(gaps: Floats) -> Floats:
    """Mean over the classes that count, [..., C] -> [...]; NaN where none does."""
    counted = np.isfinite(gaps)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(counted, gaps, 0.0).sum(-1) / counted.sum(-1)
    return mean


@dataclass(frozen=True)
class _Gap(Supported):
    """What the metrics share: convention, and min_support (images that a rate is computed from; convention valid only)."""

    convention: Convention = "valid"
    min_support: int = 10
    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = True

    @property
    def qualifier(self) -> str:
        """The convention, which is added to the metric's name in results; "" for the default."""
        return "" if self.convention == "valid" else self.convention

    def _rates(self, rate: Rate, confusion: Confusion) -> Rates:
        """The mean gap [...] of one rate, each group's own rate [..., G], and the cells skipped [...]."""
        if self.convention == "fairprune" and confusion.truth.shape[-2] != 2:
            return _undefined(confusion)
        gaps, skipped = confusion.shared(gaps_of, rate, self.convention, self.min_support)
        return Rates(mean_gap(gaps), confusion.shared(mean_of, rate, self.min_support), skipped)


def _undefined(confusion: Confusion) -> Rates:
    """fairprune is defined for two groups only: with any other number there is no value, and every cell is skipped."""
    *shape, groups, classes = confusion.truth.shape
    return Rates(np.full(shape, np.nan), np.full((*shape, groups), np.nan), np.full(shape, groups * classes, np.int64))


@dataclass(frozen=True)
class EqualOpportunity0(_Gap):
    """EOpp0: mean over classes of the gap of true negative rates."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean true negative rate, skipped [...]."""
        return self._rates(true_negative, confusion)


@dataclass(frozen=True)
class EqualOpportunity1(_Gap):
    """EOpp1: mean over classes of the gap of true positive rates (recall)."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean true positive rate, skipped [...]."""
        return self._rates(true_positive, confusion)


@dataclass(frozen=True)
class PredictiveEquality(_Gap):
    """Mean over classes of the gap of false positive rates."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean false positive rate, skipped [...]."""
        return self._rates(false_positive, confusion)


@dataclass(frozen=True)
class DemographicParity(_Gap):
    """Mean over classes of the gap of prediction rates P(predicted = c | group)."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean prediction rate, skipped [...]."""
        return self._rates(prediction_rate, confusion)


@dataclass(frozen=True)
class PredictiveParity(_Gap):
    """Mean over classes of the gap of positive predictive values P(correct | predicted = c, group). A cell's support is
    the number of images that are predicted as c."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean positive predictive value, skipped [...]."""
        return self._rates(positive_value, confusion)


@dataclass(frozen=True)
class EqualizedOdds(_Gap):
    """EOdd. valid: mean over classes of the larger of the TPR and FPR gaps (as fairlearn, binary); fairprune:
    mean_c |dTPR + dFPR| / 2; fairquant: mean_c (TPR gap + FPR gap)."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: mean of the true positive and the true negative rate, skipped [...]."""
        found, alarmed = (confusion.shared(mean_of, rate, self.min_support) for rate in (true_positive, false_positive))
        by_group = (found + 1 - alarmed) / 2
        if self.convention == "fairprune":
            if confusion.truth.shape[-2] != 2:
                return _undefined(confusion)
            both = (confusion.shared(true_positive), confusion.shared(false_positive))
            rates = [np.where(cells.support == 0, 0.0, cells.rate) for cells in both]
            signed = sum(rate[..., 0, :] - rate[..., 1, :] for rate in rates)
            value: Floats = np.abs(signed).mean(-1) / 2
            skipped = sum((cells.support == 0).sum((-2, -1)) for cells in both)
            return Rates(value, by_group, np.asarray(skipped))
        (hit_gaps, skipped_hits), (alarm_gaps, skipped_alarms) = (
            confusion.shared(gaps_of, rate, self.convention, self.min_support)
            for rate in (true_positive, false_positive)
        )
        gaps = hit_gaps + alarm_gaps if self.convention == "fairquant" else np.fmax(hit_gaps, alarm_gaps)
        if self.convention == "valid":
            gaps = np.where(np.isnan(hit_gaps), np.nan, gaps)
        return Rates(mean_gap(gaps), by_group, skipped_hits + skipped_alarms)
