"""Train, validation and test splits without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fairquant.errors import UserError
from fairquant.roles.dataset import ArrayImages, IntArray, Intensity, Pixels, Split, Splits

SPLITS = ("train", "validation", "test")
#: Fewer test images of a group than this are said.
FEW = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """A data set before it is split, one entry per image, N in all.

    array: uint8 [M, S, S, 3], in memory or in the cache; array_rows: int64 [N], the row of `array` that holds
    each image (None: image n is row n). labels, groups: int64 [N], indices into class_names and group_names; ids: N
    distinct names; attributes: the sensitive attributes that define the groups. digest identifies the images' content.
    notes, counts: what was dropped, for the report. given, intensity: see `Splits`.
    """

    array: Pixels
    labels: IntArray
    groups: IntArray
    ids: Sequence[str]
    class_names: Sequence[str]
    group_names: Sequence[str]
    attributes: Sequence[str]
    digest: str
    array_rows: IntArray | None = None
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    given: bool = False
    intensity: Intensity = "full"


#: How notes about small groups and classes begin.
TOO_FEW = f"fewer than {FEW} test images"


def split_rows(
    labels: IntArray, groups: IntArray, seed: int, keys: Sequence[str] | None = None
) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of train, validation and test, 60/20/20, stratified by label and group, ascending.

    labels, groups: [N]; keys: N names of what must not be split (lesion, patient): rows with the same key are in the same
    split. Raises UserError for fewer than five images.
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    cells = labels * (int(groups.max(initial=0)) + 1) + groups
    # the finest stratification in which at least one stratum has five members, one for each fold
    strata = (cells, labels, np.zeros_like(labels))
    stratum = next(each for each in strata if np.bincount(each).max() >= 5 or not each.any())
    if seed < 0:
        raise UserError(f"split_seed: must be at least 0, got {seed}")
    if len(labels) < 5:
        raise UserError(f"{len(labels)} images are too few to split into train, validation and test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smaller strata are spread over as many folds as they have members
        if keys is None or len(set(keys)) == len(labels):
            splitter = StratifiedKFold(5, shuffle=True, random_state=seed).split(stratum, stratum)
        else:
            splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(stratum, stratum, list(keys))
        try:
            folds = [held_out.astype(np.int64) for _, held_out in splitter]
        except ValueError as error:
            many = len(labels) if keys is None else len(set(keys))
            raise UserError(
                f"{many} different patients, lesions or pictures are too few to split into train, validation and test"
            ) from error
    return np.sort(np.concatenate(folds[:3])), np.sort(folds[3]), np.sort(folds[4])


def rows_by_name(values: Sequence[str]) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of train, validation and test [n], by the N values of a split column: train, validation (or val, valid) or test.

    Raises UserError for other values, and where a split has no rows.
    """
    names = [split_name(value) for value in values]
    unknown = sorted({name for name in names if name not in SPLITS})
    if unknown:
        raise UserError(f"split column: unknown value(s) {unknown}. Use train, validation, test")
    train, validation, test = (np.flatnonzero(np.array(names) == split).astype(np.int64) for split in SPLITS)
    empty = [split for split, rows in zip(SPLITS, (train, validation, test), strict=True) if not len(rows)]
    if empty:
        raise UserError(f"split: no image that can be used is marked {', '.join(empty)}")
    return train, validation, test


def split_name(value: str) -> str:
    """One name for the spellings of a split."""
    name = value.strip().lower()
    return {"val": "validation", "valid": "validation"}.get(name, name)


def make_splits(images: LabelledImages, rows: tuple[IntArray, IntArray, IntArray]) -> Splits:
    """The splits of a data set. rows: the images [n] in train, validation and test, such as `split_rows` returns them."""
    array_rows = np.arange(len(images.labels)) if images.array_rows is None else images.array_rows
    train, validation, test = (
        Split(
            ArrayImages(images.array, array_rows[members]),
            images.labels[members],
            images.groups[members],
            tuple(images.ids[row] for row in members),
        )
        for members in rows
    )
    return Splits(
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(images.class_names),
        group_names=tuple(images.group_names),
        attributes=tuple(images.attributes),
        fingerprint=fingerprint(images.digest, images.labels, images.groups, rows),
        notes=(*images.notes, *small_split_warnings(train, test, images)),
        counts=dict(images.counts),
        given=images.given,
        intensity=images.intensity,
    )


def fingerprint(digest: str, labels: IntArray, groups: IntArray, rows: tuple[IntArray, ...]) -> str:
    """SHA-256 of the images' digest, the labels [N], the groups [N] and the rows of each split."""
    total = hashlib.sha256(digest.encode())
    for values in (labels, groups, *rows):
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def small_split_warnings(train: Split, test: Split, images: LabelledImages) -> list[str]:
    """Warnings about classes and groups that are missing from train or have few test images."""
    warnings, few = [], []
    for number, name in enumerate(images.class_names):
        if not (train.labels == number).any() and (test.labels == number).any():
            warnings.append(f"class {name!r} is in test but not in train: all of its images will be misclassified")
    for number, name in enumerate(images.group_names):
        count = int((test.groups == number).sum())
        if not (train.groups == number).any():
            warnings.append(f"group {name!r} has no image in train")
        if count < FEW:
            few.append(f"{name!r} ({count})")
    rare = [
        f"{name!r} ({count})"
        for number, name in enumerate(images.class_names)
        if (count := int((test.labels == number).sum())) < FEW
    ]
    if rare and len(test.labels) >= FEW * len(images.class_names):
        shown = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        warnings.append(f"{TOO_FEW}, too few to tell a loss from chance: class {shown}")
    if few:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        warnings.append(f"{TOO_FEW}, too few for reliable estimates, see the intervals: group {shown}")
    return warnings


def encode_labels(values: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    """N names -> (int64 [N], the distinct names): each name's number in sorted order."""
    names = tuple(sorted(set(values)))
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[value] for value in values], np.int64), names
