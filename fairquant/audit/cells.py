"""Sensitivity, specificity and positive predictive value of every class for everyone: before, after, and what changed.

A cell is a class in a scope (all images, a group, or a value of an attribute).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from fairquant.audit import paired
from fairquant.audit.holm import holm
from fairquant.audit.scopes import Floats, Scopes, scopes_of
from fairquant.roles import Predictions

LEVEL = 0.95
#: Rates of the decisions at the operating point.
DECIDED = ("operating-point sensitivity", "operating-point specificity")


@dataclass(frozen=True)
class Rate:
    """A fraction of images with its interval; NaN where there are none."""

    right: int
    images: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.right / self.images if self.images else float("nan")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One rate of one class in one scope. change: after - before with its interval; significant: a loss that is more than
    chance, held over all cells of the audit (Holm); p: of the loss by itself; NaN for ppv, which is not tested."""

    rate: str
    label: str
    scope: str
    before: Rate
    after: Rate
    change: tuple[float, float, float]
    p: float
    significant: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """scopes and class_names of the table; cells: rate by rate, scope by scope, class by class. judged, undecided: of the tested
    cells, those that could and could not have been significant with as many changed images."""

    scopes: Scopes
    class_names: tuple[str, ...]
    cells: tuple[Cell, ...]
    judged: int
    undecided: int

    def lost(self) -> list[Cell]:
        """Cells with a significant loss, the largest first."""
        return sorted((cell for cell in self.cells if cell.significant), key=lambda cell: cell.change[0])

    def of(self, rate: str, scope: str) -> list[Cell]:
        """One cell a class."""
        return [cell for cell in self.cells if cell.rate == rate and cell.scope == scope]


def cells_of(after: Predictions, before: Predictions, attributes: Sequence[str] = ()) -> Cells:
    """Every cell; where both models have an operating point also the rates of these decisions. All sensitivities and
    specificities are tested together: of all images, in each group, and for each value of each attribute."""
    scopes = scopes_of(after.group_names, attributes)
    tables: list[tuple[str, tuple[str, ...], list[Floats]]] = [
        (rate, after.class_names, [scopes.total(each) for each in table])
        for rate, table in _tables(after, before).items()
    ]
    if (decided := _decided(after, before)) is not None:
        label = (", ".join(after.class_names[number] for number in decided[0]),)
        tables += [(rate, label, [scopes.total(each) for each in table]) for rate, table in decided[1].items()]
    tested = [(lost, gained) for rate, _, (*_, lost, gained) in tables if rate != "ppv"]
    p, smallest = (
        np.concatenate([test(lost, gained).ravel() for lost, gained in tested])
        for test in (paired.p_above_zero, paired.smallest_p)
    )
    joint = holm(p, smallest=smallest)
    rejected = iter(np.split(joint.rejected, np.cumsum([lost.size for lost, _ in tested])[:-1]))
    cells: list[Cell] = []
    for rate, labels, counts in tables:
        shape = counts[0].shape
        flags = np.zeros(shape, bool) if rate == "ppv" else next(rejected).reshape(shape)
        cells += rate_cells(rate, counts, scopes.names, labels, flags)
    undecided = int((smallest > joint.level).sum())
    return Cells(scopes, after.class_names, tuple(cells), judged=p.size - undecided, undecided=undecided)


def _decided(after: Predictions, before: Predictions) -> tuple[tuple[int, ...], dict[str, list[Floats]]] | None:
    """The positive classes, and rate -> counts [G, 1] as `_tables` has them, of decisions at the operating points; None where
    there are none."""
    if after.operating is None or before.operating is None:
        return None
    classes = after.operating.classes
    positive = np.isin(after.labels, classes)
    was, now = (
        (each.score(classes) >= point.threshold) == positive
        for each, point in ((before, before.operating), (after, after.operating))
    )

    def count(rows: NDArray[np.bool_]) -> Floats:
        return np.bincount(after.groups[rows], minlength=len(after.group_names)).astype(np.float64)[:, None]

    return classes, {
        rate: [count(side), count(side & was), count(side & now), count(side & was & ~now), count(side & ~was & now)]
        for rate, side in zip(DECIDED, (positive, ~positive), strict=True)
    }


def _tables(after: Predictions, before: Predictions) -> dict[str, list[Floats]]:
    """Rate -> counts [G, C]: images, right before, right after, lost, gained; of ppv: images before, right before, images after,
    right after, images that both take for the class, and those of these that belong to it."""
    classes = np.arange(len(after.class_names))
    shape = (len(after.group_names), len(classes))

    def count(by: NDArray[np.int64], rows: NDArray[np.bool_]) -> Floats:
        place = after.groups[rows] * shape[1] + by[rows]
        return np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    labels, was, now = after.labels, before.predicted, after.predicted
    everyone = np.ones(len(labels), bool)
    truth, images = count(labels, everyone), np.bincount(after.groups, minlength=shape[0])[:, None].astype(np.float64)
    hits_before, hits_after = count(labels, was == labels), count(labels, now == labels)
    alarms_before, alarms_after = count(was, was != labels), count(now, now != labels)
    new_alarms = count(now, (now != labels) & (now != was))  # taken for the class now, and not before
    ended = count(was, (was != labels) & (now != was))
    others = images - truth
    return {
        "sensitivity": [truth, hits_before, hits_after, count(labels, (was == labels) & (now != labels)),
                        count(labels, (was != labels) & (now == labels))],
        "specificity": [others, others - alarms_before, others - alarms_after, new_alarms, ended],
        "ppv": [count(was, everyone), count(was, was == labels), count(now, everyone), count(now, now == labels),
                count(now, was == now), count(now, (was == now) & (now == labels))],
    }  # fmt: skip


def rate_cells(
    rate: str, counts: Sequence[Floats], scopes: Sequence[str], labels: Sequence[str], significant: NDArray[np.bool_]
) -> Iterator[Cell]:
    """The cells of one rate, from its counts [S, C] (see `_tables`); significant [S, C]."""
    if rate == "ppv":
        before_images, before_right, after_images, after_right = counts[:4]
        low, high = _ppv_change(*counts)
        p = np.full(before_images.shape, np.nan)
    else:
        before_images, before_right, after_right, lost, gained = counts
        after_images = before_images
        ends = paired.interval(lost, gained, before_images)
        low, high = -ends[1], -ends[0]
        p = paired.p_above_zero(lost, gained)
    spans = [
        paired.wilson(right, images, LEVEL)
        for right, images in ((before_right, before_images), (after_right, after_images))
    ]
    for scope, name in enumerate(scopes):
        for number, label in enumerate(labels):
            at = (scope, number)
            before, after = (
                Rate(int(right[at]), int(images[at]), float(span[0][at]), float(span[1][at]))
                for right, images, span in (
                    (before_right, before_images, spans[0]),
                    (after_right, after_images, spans[1]),
                )
            )
            yield Cell(
                rate=rate, label=label, scope=name, before=before, after=after,
                change=(after.value - before.value, float(low[at]), float(high[at])), p=float(p[at]),
                significant=bool(significant[at]),
            )  # fmt: skip


def _ppv_change(
    images_before: Floats,
    right_before: Floats,
    images_after: Floats,
    right_after: Floats,
    both: Floats,
    both_right: Floats,
) -> tuple[Floats, Floats]:
    """Wald interval of the change of a predictive value [...]: the two values rest on different, overlapping images, whose
    covariance is counted (Leisenring, Alonzo and Pepe, Biometrics 56, 2000). NaN where a model never predicts the class."""
    with np.errstate(invalid="ignore", divide="ignore"):
        was, now = right_before / images_before, right_after / images_after
        covariance = both_right * (1 - was) * (1 - now) + (both - both_right) * was * now
        variance = (
            was * (1 - was) / images_before + now * (1 - now) / images_after
            - 2 * covariance / (images_before * images_after)
        )  # fmt: skip
        reach = float(norm.isf((1 - LEVEL) / 2)) * np.sqrt(np.maximum(variance, 0))
        fewest = np.minimum(images_before, images_after)
        reach = np.where(reach > 0, reach, 1 - (1 - LEVEL) ** (1 / fewest))  # what could go unseen in so few
        low, high = np.maximum(now - was - reach, -1.0), np.minimum(now - was + reach, 1.0)
    return low, high
