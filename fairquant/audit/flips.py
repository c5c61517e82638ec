"""Images whose answer changed, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairquant.roles import Predictions

Kind = Literal["newly wrong", "newly right", "wrong otherwise"]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One image that the two models answer differently. probabilities: that each model gives its own answer; row: its place
    among the images."""

    row: int
    id: str
    group: str
    label: str
    before: str
    after: str
    probability_before: float
    probability_after: float
    kind: Kind


def flips_of(before: Predictions, after: Predictions) -> list[Flip]:
    """Every image with another answer, those first of which the full-precision model was the most sure."""
    was, now = before.predicted, after.predicted
    rows = np.flatnonzero(was != now)
    sure, unsure = before.probabilities[rows, was[rows]], after.probabilities[rows, now[rows]]
    names = after.class_names
    return [
        Flip(
            row=int(row), id=after.ids[row] if after.ids else str(row), group=after.group_names[after.groups[row]],
            label=names[after.labels[row]], before=names[was[row]], after=names[now[row]],
            probability_before=float(sure[place]), probability_after=float(unsure[place]),
            kind=_kind(was[row] == after.labels[row], now[row] == after.labels[row]),
        )
        for place, row in sorted(enumerate(rows), key=lambda item: (-sure[item[0]], item[1]))
    ]  # fmt: skip


def _kind(was_right: bool, is_right: bool) -> Kind:
    return "newly wrong" if was_right else "newly right" if is_right else "wrong otherwise"
