"""Images whose answer changed, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.roles import Predictions

Kind = Literal["newly wrong", "newly right", "wrong otherwise", "same class"]
Decision = Literal["", "newly missed", "newly found", "newly alarmed", "newly cleared"]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One image that the two models answer differently. probabilities: that each model gives its own class; decision: what became
    of the decision at the thresholds, where there are any and it changed; row: its place among the images."""

    row: int
    id: str
    group: str
    label: str
    before: str
    after: str
    probability_before: float
    probability_after: float
    kind: Kind
    decision: Decision = ""


def flips_of(before: Predictions, after: Predictions) -> list[Flip]:
    """Every image with another class, or another decision at the models' thresholds, those first of which the full-precision model
    was the most sure."""
    was, now = before.predicted, after.predicted
    decisions = _decisions(before, after)
    rows = np.flatnonzero((was != now) | (decisions != ""))
    sure, unsure = before.probabilities[rows, was[rows]], after.probabilities[rows, now[rows]]
    names = after.class_names
    return [
        Flip(
            row=int(row), id=after.ids[row] if after.ids else str(row), group=after.group_names[after.groups[row]],
            label=names[after.labels[row]], before=names[was[row]], after=names[now[row]],
            probability_before=float(sure[place]), probability_after=float(unsure[place]),
            kind="same class" if was[row] == now[row] else _kind(was[row] == after.labels[row], now[row] == after.labels[row]),
            decision=decisions[row],
        )
        for place, row in sorted(enumerate(rows), key=lambda item: (-sure[item[0]], item[1]))
    ]  # fmt: skip


def harmful_first(flips: Sequence[Flip]) -> list[Flip]:
    """Those that are answered worse than before: newly missed ones, then newly misclassified, then newly alarmed."""

    def rank(flip: Flip) -> int:
        return 0 if flip.decision == "newly missed" else 1 if flip.kind == "newly wrong" else 2

    return sorted(
        (f for f in flips if f.kind == "newly wrong" or f.decision in ("newly missed", "newly alarmed")), key=rank
    )


def _decisions(before: Predictions, after: Predictions) -> NDArray[np.object_]:
    """What became of each image's decision [N]; "" where it is the same, or there are no thresholds."""
    changes = np.full(len(after.labels), "", object)
    if before.operating is None or after.operating is None:
        return changes
    positive = np.isin(after.labels, after.operating.classes)
    was, now = (
        each.score(point.classes) >= point.threshold
        for each, point in ((before, before.operating), (after, after.operating))
    )
    changes[positive & was & ~now], changes[positive & ~was & now] = "newly missed", "newly found"
    changes[~positive & ~was & now], changes[~positive & was & ~now] = "newly alarmed", "newly cleared"
    return changes


def _kind(was_right: bool, is_right: bool) -> Kind:
    return "newly wrong" if was_right else "newly right" if is_right else "wrong otherwise"
