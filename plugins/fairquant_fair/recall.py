"""Sensitivity, specificity and positive predictive value of single classes, the worst of them, and what they lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError, suggestion
from fairquant.roles import Confusion, Predictions, Rates
from fairquant_fair.accuracy import Floats, Supported
from fairquant_fair.rates import Cells, positive_value, true_negative, true_positive

Counted = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def chosen_classes(names: tuple[str, ...], classes: tuple[str, ...]) -> list[int]:
    """The numbers of the classes with these names; of all where none is named. Raises UserError for an unknown name."""
    for name in names:
        if name not in classes:
            raise UserError(
                f"the data have no class {name!r}.{suggestion(name, classes)} Classes: {', '.join(classes)}"
            )
    return [classes.index(name) for name in names]


@dataclass(frozen=True)
class _Rate:
    """Mean over `classes` (all, where none is named) of a rate of the class against all others."""

    classes: tuple[str, ...] = ()
    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def qualifier(self) -> str:
        """The classes, in the form of results: sensitivity-mel."""
        return "-".join("".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") for name in self.classes)

    def _mean(self, confusion: Confusion, cells: Cells, everyone: Cells) -> Rates:
        """cells [..., G, C]: the rates by group; everyone [..., 1, C]: those of all images. Classes without images do not
        count."""
        chosen = chosen_classes(self.classes, confusion.class_names) or list(range(cells.rate.shape[-1]))
        overall = _mean_of_known(everyone.rate[..., 0, chosen])
        return Rates(overall, _mean_of_known(cells.rate[..., chosen]))

    def _class(self, predictions: Predictions) -> int | None:
        """The number of the one class that is named; None where there are several or none."""
        chosen = chosen_classes(self.classes, predictions.class_names)
        return chosen[0] if len(chosen) == 1 else None


def _mean_of_known(rates: Floats) -> Floats:
    """Mean over the last axis without NaN: [..., C] -> [...]; NaN where all are."""
    known = np.isfinite(rates)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(known, rates, 0.0).sum(-1) / known.sum(-1)
    return mean


class _Pooled(Confusion):
    """All groups as one, from the sums over classes; the table is laid out only for a metric that asks."""

    def __init__(self, of: Confusion) -> None:
        self._of, self.class_names = of, of.class_names

    @property
    def table(self) -> Floats:
        """Counts [..., 1, C true, C predicted]."""
        return _sum_over(self._of.table, -3)

    @cached_property
    def hits(self) -> Floats:
        """Right answers by class [..., 1, C]."""
        return _sum_over(self._of.hits, -2)

    @cached_property
    def truth(self) -> Floats:
        """Images of each class [..., 1, C]."""
        return _sum_over(self._of.truth, -2)

    @cached_property
    def predicted(self) -> Floats:
        """Predictions of each class [..., 1, C]."""
        return _sum_over(self._of.predicted, -2)


def _sum_over(counts: Floats, axis: int) -> Floats:
    total: Floats = counts.sum(axis, keepdims=True)
    return total


@dataclass(frozen=True)
class Sensitivity(_Rate):
    """Sensitivity (recall, true positive rate): the fraction of a class's images that the model finds."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]."""
        return self._mean(confusion, confusion.shared(true_positive), true_positive(_Pooled(confusion)))

    def counted(self, predictions: Predictions) -> Counted | None:
        """The images of the class, and those that are found [N], [N]."""
        number = self._class(predictions)
        return None if number is None else (predictions.labels == number, predictions.predicted == number)


@dataclass(frozen=True)
class Specificity(_Rate):
    """Specificity (true negative rate): the fraction of all other images that the model does not take for the class."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]."""
        return self._mean(confusion, confusion.shared(true_negative), true_negative(_Pooled(confusion)))

    def counted(self, predictions: Predictions) -> Counted | None:
        """The images of other classes, and those that are not taken for the class [N], [N]."""
        number = self._class(predictions)
        return None if number is None else (predictions.labels != number, predictions.predicted != number)


@dataclass(frozen=True)
class PositivePredictiveValue(_Rate):
    """Positive predictive value (precision): of the images that the model takes for a class, the fraction that belong to it."""

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]."""
        return self._mean(confusion, confusion.shared(positive_value), positive_value(_Pooled(confusion)))


@dataclass(frozen=True)
class WorstClassRecall(Supported):
    """The lowest recall of any class, over all groups. Classes with fewer than min_support images are left out and counted
    as skipped."""

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: the lowest within the group, skipped [...]."""
        value, skipped = _lowest(true_positive(_Pooled(confusion)), self.min_support)
        by_group, _ = _lowest(confusion.shared(true_positive), self.min_support)
        return Rates(value[..., 0], by_group, skipped[..., 0])


@dataclass(frozen=True)
class WorstCellRecall(Supported):
    """The lowest recall of any class in any group. Cells with fewer than min_support images are left out and counted as
    skipped."""

    min_support: int = 10
    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: the lowest within the group, skipped [...]."""
        by_group, skipped = _lowest(confusion.shared(true_positive), self.min_support)
        return Rates(np.fmin.reduce(by_group, -1), by_group, skipped.sum(-1))


def _lowest(cells: Cells, min_support: int) -> tuple[Floats, NDArray[np.int64]]:
    """[..., G, C] -> the lowest rate with enough support [..., G], NaN where none has, and the number left out [..., G]."""
    small = cells.support < min_support
    return np.fmin.reduce(np.where(small, np.nan, cells.rate), -1), small.sum(-1)


@dataclass(frozen=True)
class RecallLoss(Supported):
    """The most that compression took from the recall of any class in any group: recall of the full-precision model minus
    this model's, on the same images. 0 for the full-precision model itself; negative where every cell gained. Cells with fewer
    than min_support images are left out and counted as skipped. The largest of many noisy differences: above 0 by chance."""

    min_support: int = 10
    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    lower_is_better: ClassVar[bool] = True

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: the largest loss within the group, skipped [...]."""
        before, after = confusion.reference.shared(true_positive), confusion.shared(true_positive)
        gained, skipped = _lowest(Cells(after.rate - before.rate, after.support), self.min_support)
        return Rates(0.0 - np.fmin.reduce(gained, -1), 0.0 - gained, skipped.sum(-1))


@dataclass(frozen=True)
class _AtOperatingPoint:
    """A rate of the decision at the model's operating point, which the recipe's section operating_point sets."""

    positive: ClassVar[bool]
    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False

    def counted(self, predictions: Predictions) -> Counted | None:
        """The images that are (not) of the positive classes, and those that are decided rightly [N], [N]."""
        point = predictions.operating
        if point is None:
            return None
        truth = np.isin(predictions.labels, point.classes)
        answer = predictions.score(point.classes) >= point.threshold
        return truth == self.positive, answer == truth

    def evaluate(self, predictions: Predictions) -> Rates:
        """value [], by_group [G]; NaN without an operating point."""
        groups = np.arange(len(predictions.group_names))
        member = (predictions.groups == groups[:, None]).astype(np.float64)
        everyone = np.ones((1, len(predictions.labels)))
        return Rates(self.weighted(predictions, everyone)[0], self.weighted(predictions, member))

    def weighted(self, predictions: Predictions, weights: Floats) -> Floats:
        """weights [R, N] -> values [R]."""
        found = self.counted(predictions)
        if found is None:
            return np.full(len(weights), np.nan)
        counted, right = found
        with np.errstate(invalid="ignore", divide="ignore"):
            rate: Floats = weights @ (counted & right) / (weights @ counted)
        return rate


@dataclass(frozen=True)
class OperatingPointSensitivity(_AtOperatingPoint):
    """Sensitivity at the operating point: the fraction of images of the positive classes that are decided positive."""

    positive: ClassVar[bool] = True


@dataclass(frozen=True)
class OperatingPointSpecificity(_AtOperatingPoint):
    """Specificity at the operating point: the fraction of other images that are decided negative."""

    positive: ClassVar[bool] = False
