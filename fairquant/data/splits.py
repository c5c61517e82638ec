"""Train, validation and test without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.roles.dataset import ArrayImages, IntArray, Split, Splits

PARTS = ("train", "validation", "test")


def split_rows(
    labels: IntArray, groups: IntArray, seed: int, keys: Sequence[str] | None = None
) -> tuple[IntArray, IntArray, IntArray]:
    """60/20/20, stratified by label and group; rows with the same key (lesion, patient) stay on one side."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    finest = labels * (int(groups.max(initial=0)) + 1) + groups
    strata = (finest, labels, np.zeros_like(labels))  # the finest in which some stratum can be spread over five folds
    stratum = next(each for each in strata if np.bincount(each).max() >= 5 or not each.any())
    if len(labels) < 5:
        raise UserError(f"{len(labels)} images are too few to split into train, validation and test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strata with fewer than five members are spread as far as they go
        if keys is None or len(set(keys)) == len(labels):
            folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(stratum, stratum)
        else:
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(stratum, stratum, list(keys))
        parts = [held_out.astype(np.int64) for _, held_out in folds]
    return np.sort(np.concatenate(parts[:3])), np.sort(parts[3]), np.sort(parts[4])


def rows_by_name(values: Sequence[str]) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of a split column with the values train, validation (or val, valid) and test."""
    names = [{"val": "validation", "valid": "validation"}.get(v.strip().lower(), v.strip().lower()) for v in values]
    unknown = sorted({name for name in names if name not in PARTS})
    if unknown:
        raise UserError(f"split column: unknown value(s) {unknown}. Use train, validation, test")
    found = tuple(np.flatnonzero(np.array(names) == part).astype(np.int64) for part in PARTS)
    empty = [part for part, rows in zip(PARTS, found, strict=True) if not len(rows)]
    if empty:
        raise UserError(f"split column: no row is marked {', '.join(empty)}")
    return found[0], found[1], found[2]


def make_splits(
    array: NDArray[np.uint8],
    array_rows: IntArray,
    labels: IntArray,
    groups: IntArray,
    ids: Sequence[str],
    rows: tuple[IntArray, IntArray, IntArray],
    class_names: Sequence[str],
    group_names: Sequence[str],
    attributes: Sequence[str],
    digest: str,
    notes: Sequence[str] = (),
    counts: dict[str, int] | None = None,
) -> Splits:
    """Put the parts together. array_rows: where each image lies in `array`; digest: of the images' content."""
    parts = [
        Split(ArrayImages(array, array_rows[part]), labels[part], groups[part], tuple(ids[row] for row in part))
        for part in rows
    ]
    notes = (*notes, *warnings_about(parts, class_names, group_names))
    return Splits(
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        class_names=tuple(class_names),
        group_names=tuple(group_names),
        attributes=tuple(attributes),
        fingerprint=fingerprint(digest, labels, groups, rows),
        notes=notes,
        counts=counts or {},
    )


def fingerprint(digest: str, labels: IntArray, groups: IntArray, rows: tuple[IntArray, ...]) -> str:
    """One digest of images, labels, groups and split."""
    total = hashlib.sha256(digest.encode())
    for values in (labels, groups, *rows):
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def warnings_about(parts: Sequence[Split], class_names: Sequence[str], group_names: Sequence[str]) -> list[str]:
    """What a reader of the numbers must know: classes and groups that a part lacks or that are very small."""
    train, _, test = parts
    found = []
    for number, name in enumerate(class_names):
        if not (train.labels == number).any() and (test.labels == number).any():
            found.append(f"class {name!r} is in test but not in train: every one of its images must come out wrong")
    for number, name in enumerate(group_names):
        images = int((test.groups == number).sum())
        if not (train.groups == number).any():
            found.append(f"group {name!r} has no image in train")
        if images < 30:
            found.append(f"group {name!r} has {images} test image(s): its numbers say little, see their intervals")
    return found


def encode_labels(values: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    """Names to 0..n-1 in sorted order."""
    names = tuple(sorted(set(values)))
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[value] for value in values], np.int64), names
