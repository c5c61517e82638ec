"""Fractions of images of two models side by side, with the intervals that the report uses: Wilson's, and Tango's of the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.audit import paired
from fairquant.report.comparison import Difference
from fairquant.report.diff import Estimate, Quantity
from fairquant.roles import AnyMetric, Predictions, ProportionMetric, Rates

Rows = NDArray[np.bool_]
LEVEL = 0.95


def proportion(label: str, metric: AnyMetric, a: Predictions, b: Predictions, same_images: bool) -> Quantity | None:
    """The metric of both; None where it is no fraction of images."""
    if not isinstance(metric, ProportionMetric):
        return None
    on_a, on_b = metric.counted(a), metric.counted(b)
    if on_a is None or on_b is None:
        return None
    (counted, was), (counted_b, now) = on_a, on_b
    difference = None
    if same_images and np.array_equal(counted, counted_b):
        lost, gained, images = (
            np.array([rows.sum()], np.float64) for rows in (counted & was & ~now, counted & now & ~was, counted)
        )
        low, high = paired.interval(lost, gained, images)
        value = float((gained - lost)[0] / images[0]) if images[0] else float("nan")
        difference = Difference(value, -float(high[0]), -float(low[0]))
    return Quantity(
        label=label, a=_estimate(counted, was), b=_estimate(counted_b, now), difference=difference,
        images=(int(counted.sum()), int(counted_b.sum())),
    )  # fmt: skip


def _estimate(counted: Rows, right: Rows) -> Estimate:
    images, hits = float(counted.sum()), float((counted & right).sum())
    low, high = paired.wilson(np.array([hits]), np.array([images]), LEVEL)
    return Estimate(hits / images if images else float("nan"), float(low[0]), float(high[0]))


@dataclass(frozen=True)
class _Counted:
    """A fraction of images by itself, for this comparison only."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False

    def evaluate(self, predictions: Predictions) -> Rates:
        """value []; it is never asked for: the counts are."""
        raise NotImplementedError

    def counted(self, predictions: Predictions) -> tuple[Rows, Rows] | None:
        raise NotImplementedError


@dataclass(frozen=True)
class Recall(_Counted):
    """The fraction of a class's images that are classified correctly."""

    number: int

    def counted(self, predictions: Predictions) -> tuple[Rows, Rows]:
        """The images of the class, and those that are found [N], [N]."""
        return predictions.labels == self.number, predictions.predicted == self.number


@dataclass(frozen=True)
class Decided(_Counted):
    """The fraction of positive (or of the other) images that are decided rightly at the model's own threshold, in a group or, with
    None, in all."""

    positive: bool
    group: str | None = None

    def counted(self, predictions: Predictions) -> tuple[Rows, Rows] | None:
        """The images, and those that are decided rightly [N], [N]; None without an operating point."""
        point = predictions.operating
        if point is None:
            return None
        truth = np.isin(predictions.labels, point.classes)
        rows = truth == self.positive
        if self.group is not None:
            names = np.array(predictions.group_names)
            rows = rows & (names[predictions.groups] == self.group)
        return rows, (predictions.score(point.classes) >= point.threshold) == truth


def decided(a: Predictions, b: Predictions, same_images: bool) -> tuple[Quantity, ...]:
    """Sensitivity and specificity at the thresholds of both, of all images and in each group; nothing unless both have thresholds for
    the same classes."""
    if a.operating is None or b.operating is None or a.operating.classes != b.operating.classes:
        return ()
    groups = tuple(dict.fromkeys((*a.group_names, *b.group_names)))
    rows = [
        proportion(f"{name}, {group or 'all images'}", Decided(positive, group), a, b, same_images)
        for positive, name in ((True, "sensitivity"), (False, "specificity"))
        for group in (None, *groups)
    ]
    return tuple(each for each in rows if each is not None)
