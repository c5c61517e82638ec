"""Data that a caller brings in Python's memory, as splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from fairquant.errors import UserError
from fairquant.roles import DataContext, Split, Splits

IN_MEMORY = "in-memory"


class Labelled(Protocol):
    """A data set of (float image tensor [3, H, W] ready for the model, label, group)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, int, int]: ...


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
    data: Mapping[str, Split], class_names: Sequence[str] | None, group_names: Sequence[str] | None
) -> Splits:
    """The three splits with their names; UserError where there are fewer names than classes or groups."""
    labels = max(int(split.labels.max(initial=0)) for split in data.values()) + 1
    groups = max(int(split.groups.max(initial=0)) for split in data.values()) + 1
    classes = tuple(class_names) if class_names else tuple(f"class {number}" for number in range(labels))
    names = tuple(group_names) if group_names else tuple(f"group {number}" for number in range(groups))
    if len(classes) < labels or len(names) < groups:
        raise UserError(f"class_names, group_names: the data have {labels} classes and {groups} groups")
    for key, given in (("class_names", classes), ("group_names", names)):
        if len(set(given)) < len(given):
            raise UserError(f"{key}: {next(name for name in given if given.count(name) > 1)!r} is there twice")
    return Splits(
        train=data["train"], validation=data["validation"], test=data["test"], class_names=classes, group_names=names,
        attributes=("group",), fingerprint=_digest_data(data),
    )  # fmt: skip


@dataclass(frozen=True)
class _LabelledImages:
    items: Labelled

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        return self.items[index][0]


def in_memory_split(name: str, items: Labelled) -> Split:
    """Labels and groups of a data set of (image, label, group)."""
    try:
        triples = [items[index] for index in range(len(items))]
        labels = np.array([int(label) for _, label, _ in triples], np.int64)
        groups = np.array([int(group) for _, _, group in triples], np.int64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: every item must be (image, label, group) with whole numbers for label and group: {error}"
        ) from error
    if not len(labels) or not isinstance(triples[0][0], Tensor):
        raise UserError(f"{name}: needs at least one item, and tensors for images")
    return Split(_LabelledImages(items), labels, groups, tuple(f"{name}-{row}" for row in range(len(labels))))


def _digest_data(data: Mapping[str, Split]) -> str:
    total = hashlib.sha256()
    for split in data.values():
        for index in range(len(split)):
            total.update(np.ascontiguousarray(split.images[index].numpy()).tobytes())
        total.update(split.labels.tobytes() + split.groups.tobytes())
    return total.hexdigest()
