"""Data that a caller brings in Python's memory, as splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fairquant.data.unlabelled import Unlabelled, WithoutLabels, indexable
from fairquant.errors import UserError
from fairquant.roles import DataContext, Split, Splits

IN_MEMORY = "in-memory"
#: More groups than any table of groups is for: numbers of patients.
MANY_GROUPS = 1000


class Labelled(Protocol):
    """A data set of (float image tensor [3, H, W] ready for the model, label, group)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, int, int]: ...


def given_splits(
    train: Labelled | None, validation: Labelled | None, test: Labelled | None,
    calibration: Unlabelled | Iterable[object] | None, answer: Callable[[Tensor], int],
) -> tuple[dict[str, Split], list[str]]:  # fmt: skip
    """Splits by name, and what is to be said of them. calibration takes the place of `train` and of `validation` where they are
    None, labelled with the model's answer to each image [3, H, W]; validation that of `test`."""
    if calibration is None and (train is None or validation is None):
        raise UserError(
            "give train and validation: data sets of (image, label, group). Without labels: calibration, images or (image, group)"
        )
    found = {}
    if calibration is not None:
        split = in_memory_split("calibration", WithoutLabels(indexable(calibration)))
        answers = np.array([answer(split.images[row]) for row in range(len(split))], np.int64)
        found["calibration"] = replace(split, labels=answers)
    for name, items, stand_in in (
        ("train", train, "calibration"), ("validation", validation, "calibration"), ("test", test, "validation"),
    ):  # fmt: skip
        found[name] = found[stand_in] if items is None else in_memory_split(name, items)
    if validation is None and test is None:
        return found, []  # see OWN_ANSWERS
    notes = [] if test is not None else ["no test set was given: the audit is on validation and is optimistic"]
    if train is None:
        notes.append(
            "no labelled images to train on were given: their labels are the full-precision model's own answers"
        )
    return found, notes


@dataclass(frozen=True)
class InMemoryDataset:
    """The dataset section of a run started from Python: digests in place of a name in the registry."""

    fingerprint: str
    model: str

    def check(self) -> list[str]:
        return []

    def load(self, context: DataContext) -> Splits:
        raise UserError("the data of this run were in Python's memory: start it from Python again")


def in_memory_splits(
    data: Mapping[str, Split], outputs: int, class_names: Sequence[str] | None, group_names: Sequence[str] | None
) -> Splits:
    """The three splits with their names. outputs: of the model; those beyond the labels are classes without images. UserError for
    negative labels or groups, more labels than outputs, and other numbers of names than of outputs or groups."""
    _check_numbers(data)
    labels = max(int(split.labels.max(initial=0)) for split in data.values()) + 1
    if labels > outputs:
        raise UserError(f"the data have labels up to {labels - 1}, but the model has {outputs} outputs")
    if class_names and labels <= len(class_names) != outputs:
        raise UserError(
            f"class_names: {len(class_names)} names, but the model has {outputs} outputs: name each of them"
        )
    labels = outputs
    groups = max(int(split.groups.max(initial=0)) for split in data.values()) + 1
    classes = tuple(class_names) if class_names else tuple(f"class {number}" for number in range(labels))
    names = tuple(group_names) if group_names else tuple(f"group {number}" for number in range(groups))
    short = [
        f"{key}: {len(given)} names, but there are {count} {what}"
        for key, what, given, count in (
            ("class_names", "classes", classes, labels),
            ("group_names", "groups", names, groups),
        )
        if len(given) < count
    ]
    if short:
        raise UserError(short)
    for key, given in (("class_names", classes), ("group_names", names)):
        if wrong := [name for name in given if not name.isprintable()]:
            raise UserError(f"{key}: {wrong[0]!r} has a line break or another character that controls a terminal")
        if len(set(given)) < len(given):
            raise UserError(f"{key}: {next(name for name in given if given.count(name) > 1)!r} is there twice")
    return Splits(
        train=data["train"], validation=data["validation"], test=data["test"], class_names=classes, group_names=names,
        attributes=("group",), fingerprint=_digest_data(data), calibration=data.get("calibration"),
    )  # fmt: skip


def in_memory_notes(data: Mapping[str, Split], splits: Splits) -> list[str]:
    """What makes results of these data too good, or leaves them empty: equal images in train and in another split, classes and
    groups that a split lacks."""
    notes = []
    seen = {name: {_digest_image(split.images[row]) for row in range(len(split))} for name, split in data.items()}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if data[one] is data[other] and (one == "validation" or data[one] is data.get("calibration")):
            continue  # one stands in for the other, which is said
        if equal := seen[one] & seen[other]:
            notes.append(
                f"{len(equal)} of {len(seen[other])} different images of {other} are in {one} as well, "
                "which makes every number too good"
            )
    own = [split for split in data.values() if split is data.get("calibration")]
    for name, split in (("train", splits.train), ("test", splits.test)):
        if name == "test" and len(own) == len(data):
            continue  # all are the calibration images
        for what, names, values in (
            ("class", splits.class_names, split.labels),
            ("group", splits.group_names, split.groups),
        ):
            if absent := [each for number, each in enumerate(names) if not (values == number).any()]:
                notes.append(
                    f"{what} without images in {name}: {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}"
                )
    return notes


def _check_numbers(data: Mapping[str, Split]) -> None:
    """UserError for labels and groups below 0, which many tables use for unknown ones, and for groups that are none."""
    once = {id(split): (name, split) for name, split in reversed([*data.items()])}  # one may stand in for another
    named = [*reversed([*once.values()])]
    problems = [
        f"{name}: {int((values < 0).sum())} of {len(values)} {what} are negative (unknown?): leave these items out, or give them a "
        f"{what.rstrip('s')} of their own"
        for name, split in named
        for what, values in (("labels", split.labels), ("groups", split.groups))
        if (values < 0).any()
    ]
    problems += [
        f"{name}: groups are numbered up to {int(split.groups.max())}, and there are {len(np.unique(split.groups))}: number them 0, "
        "1, 2 and so on"
        for name, split in named
        if len(split) and split.groups.max() >= MANY_GROUPS
    ]
    if problems:
        raise UserError(problems)


@dataclass(frozen=True)
class _LabelledImages:
    items: Labelled

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        image = self.items[index][0].detach()
        return image.float() if image.is_floating_point() else image


def in_memory_split(name: str, items: Labelled) -> Split:
    """Labels and groups of a data set of (image, label, group)."""
    triples = [_item(name, items, index) for index in range(len(items))]
    try:
        labels = np.array([_whole(label) for _, label, _ in triples], np.int64)
        groups = np.array([_whole(group) for _, _, group in triples], np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = (
            "an image or (image, group) with a whole number for the group"
            if isinstance(items, WithoutLabels)
            else "(image, label, group) with whole numbers for label and group"
        )
        raise UserError(f"{name}: every item must be {wanted}: {error}") from error
    if not len(labels) or not all(isinstance(image, Tensor) for image, _, _ in triples):
        raise UserError(
            f"{name}: needs at least one item, and tensors for images (torch.from_numpy makes them of arrays)"
        )
    if strange := [row for row, (image, _, _) in enumerate(triples) if image.layout != torch.strided or image.is_meta]:
        raise UserError(f"{name}: image {strange[0]} is a sparse or a meta tensor: give dense ones, with values")
    if odd := [row for row, (image, _, _) in enumerate(triples) if image.shape != triples[0][0].shape]:
        raise UserError(
            f"{name}: image {odd[0]} is {tuple(triples[odd[0]][0].shape)}, the first {tuple(triples[0][0].shape)}: all must be alike"
        )
    if bad := [row for row, (image, _, _) in enumerate(triples) if not bool(torch.isfinite(image).all())]:
        raise UserError(f"{name}: {len(bad)} of {len(triples)} images are not finite numbers, first {bad[0]}")
    return Split(_LabelledImages(items), labels, groups, tuple(f"{name}-{row}" for row in range(len(labels))))


def _item(name: str, items: Labelled, index: int) -> tuple[Tensor, int, int]:
    """UserError, with the item's number, for whatever a data set raises."""
    try:
        return items[index]
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{name}: item {index} cannot be read: {type(error).__name__}: {error}") from error


def _whole(value: object) -> int:
    number = int(value)  # type: ignore[call-overload]  # raises for what is no number
    if number != value:
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


def _digest_image(image: Tensor) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image.numpy()).tobytes()).digest()


def _digest_data(data: Mapping[str, Split]) -> str:
    total = hashlib.sha256()
    for split in data.values():
        for index in range(len(split)):
            total.update(np.ascontiguousarray(split.images[index].numpy()).tobytes())
        total.update(split.labels.tobytes() + split.groups.tobytes())
    return total.hexdigest()
