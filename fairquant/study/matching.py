"""Two predictions laid side by side: classes and groups by name, images by id."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.export.audit import FROM_PYTHON
from fairquant.report.diff import Pairing
from fairquant.roles import Predictions

#: Of images whose ids are in both, the fraction whose classes must agree; below it the ids name other images.
AGREEING = 0.95


@dataclass(frozen=True)
class Predicted:
    """Predictions, the name of their data, and the fingerprint of these (content and split), empty where it is not known."""

    predictions: Predictions
    dataset: str
    fingerprint: str


@dataclass(frozen=True)
class Matched:
    """a, b: the predictions to compare, classes in the order of A; the same images in the same order unless `pairing` is
    "none". notes: what was left out, or taken from A."""

    a: Predictions
    b: Predictions
    pairing: Pairing
    notes: tuple[str, ...]


def match(a: Predicted, b: Predicted) -> Matched:
    """The images of both, matched by id (and class). Raises UserError where the classes differ."""
    first, second = a.predictions, with_classes(b.predictions, a.predictions.class_names)
    sizes = f"A: {len(first.labels)}, B: {len(second.labels)}"
    rows_a, rows_b = _common(first.ids, second.ids)
    agree = first.labels[rows_a] == second.labels[rows_b]
    if len(rows_a) and not _same_images(a, b, float(agree.mean())):
        note = f"{len(rows_a)} ids are in both, but name other images: {int((~agree).sum())} have another class in B"
        if a.dataset in FROM_PYTHON or b.dataset in FROM_PYTHON:
            note = "data from Python's memory have no ids of their own, so that only the same data can be matched"
        return _apart(first, second, sizes, (note,))
    rows_a, rows_b = rows_a[agree], rows_b[agree]
    if not len(rows_a):
        return _apart(first, second, sizes, ())
    notes = [f"{int((~agree).sum())} image(s) have another class in B: left out"] if not agree.all() else []
    complete = len(rows_a) == len(first.labels) == len(second.labels)
    if not complete:
        notes.insert(
            0, f"the test images differ ({sizes}): compared on the {len(rows_a)} that both have, on these alone"
        )
    one, other = first.take(rows_a), second.take(rows_b)
    shown, group_notes = _with_groups_of(one, other)
    return Matched(one, shown, "same" if complete else "common", (*notes, *group_notes))


def check_classes(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    """Raises UserError where one side has classes that the other lacks."""
    only = [(side, [name for name in own if name not in other]) for side, own, other in (("A", a, b), ("B", b, a))]
    if missing := [f"only {side} has {', '.join(map(repr, names))}" for side, names in only if names]:
        raise UserError(f"the classes differ, so that the two cannot be compared: {'; '.join(missing)}")


def with_classes(predictions: Predictions, names: tuple[str, ...]) -> Predictions:
    """The predictions with their classes in another order. Raises UserError where the classes differ."""
    check_classes(names, predictions.class_names)
    if predictions.class_names == names:
        return predictions
    order = [predictions.class_names.index(name) for name in names]
    number = np.argsort(order)
    point, reference = predictions.operating, predictions.reference
    return replace(
        predictions, logits=predictions.logits[:, order], labels=number[predictions.labels], class_names=names,
        reference=None if reference is None else with_classes(reference, names),
        operating=None if point is None else replace(point, classes=tuple(int(number[each]) for each in point.classes)),
    )  # fmt: skip


def with_groups(predictions: Predictions, groups: NDArray[np.int64], names: tuple[str, ...]) -> Predictions:
    """The predictions with other groups [N]."""
    reference = None if predictions.reference is None else with_groups(predictions.reference, groups, names)
    return replace(predictions, groups=groups, group_names=names, reference=reference)


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the images in both, in the order of A; an id that is there several times is matched as often as in both."""
    place = {key: row for row, key in enumerate(_numbered(b))}
    pairs = [(row, place[key]) for row, key in enumerate(_numbered(a)) if key in place]
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _numbered(ids: tuple[str, ...]) -> list[tuple[str, int]]:
    seen: Counter[str] = Counter()
    keys = []
    for name in ids:
        keys.append((name, seen[name]))
        seen[name] += 1
    return keys


def _same_images(a: Predicted, b: Predicted, agreeing: float) -> bool:
    """Whether equal ids name the same images: surely so in the same data; in others, where nearly all classes agree."""
    if a.fingerprint and a.fingerprint == b.fingerprint:
        return True
    return agreeing >= AGREEING and a.dataset not in FROM_PYTHON and b.dataset not in FROM_PYTHON


def _apart(a: Predictions, b: Predictions, sizes: str, notes: tuple[str, ...]) -> Matched:
    note = (
        f"the test images differ ({sizes}) and none can be matched: the two cannot be compared image by image, so that no "
        "differences are shown. --dataset tests both on the same data"
    )
    if set(a.group_names) == set(b.group_names):
        number = np.array([a.group_names.index(name) for name in b.group_names], np.int64)
        b = with_groups(b, number[b.groups], a.group_names)
    return Matched(a, b, "none", (note, *notes))


def _with_groups_of(a: Predictions, b: Predictions) -> tuple[Predictions, tuple[str, ...]]:
    """B with the groups of A, which has the same images; what that changed."""
    names_a, names_b = np.array(a.group_names)[a.groups], np.array(b.group_names)[b.groups]
    notes: tuple[str, ...] = ()
    if set(a.group_names).isdisjoint(b.group_names):
        notes = (f"the groups of B are others ({', '.join(b.group_names)}): both are shown by the groups of A",)
    elif count := int((names_a != names_b).sum()):
        notes = (f"{count} image(s) are in another group in B: both are shown by the groups of A",)
    return with_groups(b, a.groups, a.group_names), notes
