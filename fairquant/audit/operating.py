"""Decisions at a threshold: chosen on validation for each model by itself, and what they do on test to everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.cells import DECIDED, Cell, Cells
from fairquant.audit.roc import Area, area, partial_area
from fairquant.audit.scopes import Floats
from fairquant.errors import UserError, unknown_classes
from fairquant.recipe.sections import OperatingPointSettings
from fairquant.roles import OperatingPoint, Predictions


@dataclass(frozen=True, kw_only=True)
class AreaChange:
    """An area under the curve with its interval: (value, low, high) before, after and of the paired change. kind: "auc", or
    "partial auc" over the region that the recipe names."""

    kind: str
    scope: str
    positives: int
    negatives: int
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    change: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """thresholds: before and after; classes: the positive ones; rates: sensitivity and specificity of everyone; areas."""

    classes: tuple[str, ...]
    target: str
    thresholds: tuple[float, float]
    rates: tuple[Cell, ...]
    areas: tuple[AreaChange, ...]


def class_numbers(settings: OperatingPointSettings, class_names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the positive classes. Raises UserError for unknown names, and where no negative class is left."""
    problems = unknown_classes("operating_point.classes", settings.classes, class_names)
    if not problems and set(settings.classes) >= set(class_names):
        problems = ["operating_point.classes: every class is positive: leave at least one out"]
    if problems:
        raise UserError(problems)
    return tuple(class_names.index(name) for name in dict.fromkeys(settings.classes))


def choose_threshold(validation: Predictions, settings: OperatingPointSettings) -> OperatingPoint:
    """The highest threshold with the wanted sensitivity on validation, or the lowest with the wanted specificity.

    Raises UserError where validation has no image on the side that it depends on.
    """
    classes = class_numbers(settings, validation.class_names)
    positive, scores = np.isin(validation.labels, classes), validation.score(classes)
    wanted, side = (
        (settings.sensitivity, positive) if settings.sensitivity is not None else (settings.specificity, ~positive)
    )
    assert wanted is not None
    count = int(side.sum())
    if not count:
        which = ", ".join(settings.classes) if settings.sensitivity is not None else "other classes"
        raise UserError(f"operating_point: validation has no image of {which} to choose a threshold on")
    needed = int(np.ceil(wanted * count - 1e-9))
    if settings.sensitivity is not None:
        threshold = float(np.sort(scores[side])[::-1][needed - 1])
    else:
        threshold = float(np.nextafter(np.sort(scores[side])[needed - 1], np.inf))
    return OperatingPoint(classes, threshold)


def decisions_of(before: Predictions, after: Predictions, settings: OperatingPointSettings, cells: Cells) -> Decisions:
    """What both models decide on the same images; both have their operating points. cells: the audit's."""
    assert before.operating is not None and after.operating is not None
    classes = after.operating.classes
    names = tuple(after.class_names[number] for number in classes)
    positive = np.isin(after.labels, classes)
    scores = [each.score(classes) for each in (before, after)]
    scopes = cells.scopes
    rates = [cell for cell in cells.cells if cell.rate in DECIDED]
    wanted = (
        f"sensitivity {settings.sensitivity:g}"
        if settings.sensitivity is not None
        else f"specificity {settings.specificity:g}"
    )
    areas = [
        _area_change(kind, name, scopes.members[row][after.groups] > 0, positive, scores, settings)
        for kind in ("auc", "partial auc")
        for row, name in enumerate(scopes.names)
    ]
    return Decisions(
        classes=names, target=wanted, thresholds=(before.operating.threshold, after.operating.threshold), rates=tuple(rates),
        areas=tuple(areas),
    )  # fmt: skip


def _area_change(
    kind: str, scope: str, rows: NDArray[np.bool_], positive: NDArray[np.bool_], scores: Sequence[Floats],
    settings: OperatingPointSettings,
) -> AreaChange:  # fmt: skip
    """One kind of area of some images."""

    def measure(each: Floats) -> Area:
        if kind == "auc":
            return area(each[rows], positive[rows])
        if settings.sensitivity is not None:
            return partial_area(each[rows], positive[rows], sensitivity_from=settings.partial_from)
        return partial_area(each[rows], positive[rows], specificity_from=settings.partial_from)

    before, after = (measure(each) for each in scores)
    change = after - before
    return AreaChange(
        kind=kind, scope=scope, positives=int(positive[rows].sum()), negatives=int((~positive[rows]).sum()),
        before=(before.value, *before.interval()), after=(after.value, *after.interval()),
        change=(change.value, *change.interval(low=-1.0)),
    )  # fmt: skip
