"""What the data sets made of a csv table and a folder share: reading, dropping rows with counts, intersecting attributes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fairquant.data.images import decode_images
from fairquant.data.splits import LabelledImages, encode_labels, make_splits, rows_by_name, split_rows
from fairquant.errors import UserError, suggestion
from fairquant.roles.dataset import JOINED, DataContext, IntArray, Splits

Row = dict[str, str]


def read_csv(file: Path, needed: Sequence[str]) -> list[Row]:
    """Rows of a csv file; UserError where it cannot be read or lacks any of the needed columns."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    missing = [column for column in needed if column not in columns]
    if missing:
        raise UserError(
            [
                f"{file}: no column {name!r}.{suggestion(name, columns)} Columns: {', '.join(columns)}"
                for name in missing
            ]
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and what is known about it. attributes: one value per attribute, "" where unknown; key: the lesion or
    patient, all of whose images go to the same split; split: the given split, "" where there is none."""

    file: Path
    id: str
    label: str
    attributes: tuple[str, ...]
    key: str = ""
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A data set as read from its files. attributes: names of the samples' attributes; class_order, group_order: all
    possible names in their order (None: those that occur, sorted); notes, counts: what was dropped while reading."""

    samples: Sequence[Sample]
    attributes: Sequence[str]
    class_order: Sequence[str] | None = None
    group_order: Sequence[str] | None = None
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def build_splits(table: Table, context: DataContext, split_seed: int | None, max_bad: int) -> Splits:
    """Decode the images and split them, as given or 60/20/20 with split_seed (None: the run's seed).

    Images with an unknown attribute, without a file or that do not decode are dropped, counted and noted. UserError where
    no image remains, more than max_bad images do not decode, or there are fewer than two classes.
    """
    notes, counts = list(table.notes), dict(table.counts)
    present = _with_known_attributes_and_file(table, notes, counts)
    decoded = decode_images([sample.file for sample in present], context, max_bad)
    if decoded.failures:
        names = ", ".join(Path(name).name for name in list(decoded.failures)[:5])
        notes.append(f"{len(decoded.failures)} image(s) do not decode and are skipped: {names}")
        counts["undecodable"] = len(decoded.failures)
    samples = [present[row] for row in decoded.valid_rows]
    _check_attributes(samples, table.attributes)
    labels, class_names = _encode([sample.label for sample in samples], table.class_order)
    if unused := [name for name in table.class_order or () if name not in class_names]:
        notes.append(f"class(es) without images left out: {', '.join(unused)}")
    groups, group_names = _encode([JOINED.join(sample.attributes) for sample in samples], table.group_order)
    if len(class_names) < 2:
        raise UserError(f"dataset: {len(class_names)} class with images; a classifier needs two")
    if any(sample.split for sample in samples):
        rows = rows_by_name([sample.split for sample in samples])
    else:
        keys = [sample.key for sample in samples] if any(sample.key for sample in samples) else None
        rows = split_rows(labels, groups, context.seed if split_seed is None else split_seed, keys)
    images = LabelledImages(
        array=decoded.array,
        array_rows=decoded.valid_rows,
        labels=labels,
        groups=groups,
        ids=[sample.id for sample in samples],
        class_names=class_names,
        group_names=group_names,
        attributes=table.attributes,
        digest=decoded.digest,
        notes=notes,
        counts=counts,
    )
    return make_splits(images, rows)


def _check_attributes(samples: Sequence[Sample], attributes: Sequence[str]) -> None:
    """UserError where a value contains what joins the values of several attributes in the names of groups."""
    if len(attributes) < 2:
        return
    values = {(name, value) for sample in samples for name, value in zip(attributes, sample.attributes, strict=True)}
    if joined := sorted(each for each in values if JOINED in each[1]):
        raise UserError([f"dataset: {name} {value!r} contains {JOINED!r}, which joins the values of several attributes in "
                         "names of groups. Write it in another way" for name, value in joined])  # fmt: skip


def _with_known_attributes_and_file(table: Table, notes: list[str], counts: dict[str, int]) -> list[Sample]:
    """The samples that can be used; notes and counts are extended by what was dropped."""
    known = [sample for sample in table.samples if all(sample.attributes)]
    if dropped := len(table.samples) - len(known):
        notes.append(f"{dropped} image(s) dropped: {' or '.join(table.attributes)} unknown")
        counts["dropped_unknown"] = dropped
    present = [sample for sample in known if sample.file.is_file()]
    if absent := len(known) - len(present):
        examples = ", ".join(sample.id for sample in known if not sample.file.is_file())[:90]
        notes.append(f"{absent} row(s) without an image file: {examples}{'...' if absent > 2 else ''}")
        counts["without_image"] = absent
    if not present and not table.samples:
        raise UserError("dataset: the table has no usable rows")
    if not present:
        raise UserError(
            f"dataset: none of the {len(table.samples)} rows has an image file. Looked for {table.samples[0].file}"
        )
    return present


def _encode(values: Sequence[str], order: Sequence[str] | None) -> tuple[IntArray, tuple[str, ...]]:
    """Numbers [N] of the N values, and the names that occur, in the given order or sorted."""
    if order is None:
        return encode_labels(values)
    occurring = set(values)
    names = tuple(name for name in order if name in occurring)
    return np.array([names.index(value) for value in values], np.int64), names
