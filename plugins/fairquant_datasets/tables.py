"""What the data sets made of a csv and a folder share: reading, dropping with counts, groups of several attributes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairquant.data.images import decode_images
from fairquant.data.splits import LabelledImages, encode_labels, make_splits, rows_by_name, split_rows
from fairquant.errors import UserError, suggestion
from fairquant.roles.dataset import DataContext, Splits

Row = dict[str, str]


def read_csv(file: Path, needed: Sequence[str]) -> list[Row]:
    """Rows of a csv; UserError naming the columns that are missing."""
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
    """One image with what is known of it. attributes: one value per attribute, "" where unknown."""

    file: Path
    id: str
    label: str
    attributes: tuple[str, ...]
    key: str = ""  # lesion or patient: never on two sides of the split
    split: str = ""  # given split, if any


def build_splits(
    samples: Sequence[Sample],
    attributes: Sequence[str],
    context: DataContext,
    *,
    split_seed: int,
    max_bad: int,
    notes: Sequence[str],
    counts: dict[str, int],
    classes: Sequence[str] | None = None,
    group_order: Sequence[str] | None = None,
) -> Splits:
    """Drop what is unknown or missing (counted), decode, split, put together. `classes` fixes the classes' order."""
    notes, counts = list(notes), dict(counts)
    known = [sample for sample in samples if all(sample.attributes)]
    if dropped := len(samples) - len(known):
        notes.append(f"{dropped} image(s) dropped: {' or '.join(attributes)} unknown")
        counts["dropped_unknown"] = dropped
    present = [sample for sample in known if sample.file.is_file()]
    if absent := len(known) - len(present):
        examples = ", ".join(sample.id for sample in known if not sample.file.is_file())[:90]
        notes.append(f"{absent} row(s) without an image file: {examples}{'...' if absent > 2 else ''}")
        counts["without_image"] = absent
    if not present:
        raise UserError(
            f"dataset: none of the {len(samples)} rows has an image file. Looked for {samples[0].file}"
            if samples
            else "dataset: the table has no usable rows"
        )
    decoded = decode_images([sample.file for sample in present], context, max_bad)
    if decoded.failures:
        names = ", ".join(Path(name).name for name in list(decoded.failures)[:5])
        notes.append(f"{len(decoded.failures)} image(s) do not decode and are skipped: {names}")
        counts["undecodable"] = len(decoded.failures)
    good = [present[row] for row in decoded.valid_rows]
    found = {sample.label for sample in good}
    if classes is None:
        labels, class_names = encode_labels([sample.label for sample in good])
    else:
        class_names = tuple(name for name in classes if name in found)
        if empty := [name for name in classes if name not in found]:
            notes.append(f"class(es) without images left out: {', '.join(empty)}")
        labels = np.array([class_names.index(sample.label) for sample in good], np.int64)
    values = [" x ".join(sample.attributes) for sample in good]
    groups, group_names = encode_labels(values)
    if group_order is not None and len(attributes) == 1:
        group_names = tuple(name for name in group_order if name in set(values))
        groups = np.array([group_names.index(value) for value in values], np.int64)
    if len(class_names) < 2:
        raise UserError(f"dataset: {len(class_names)} class with images; a classifier needs two")
    rows = (
        rows_by_name([sample.split for sample in good])
        if any(sample.split for sample in good)
        else split_rows(labels, groups, split_seed, [s.key for s in good] if any(s.key for s in good) else None)
    )
    images = LabelledImages(
        array=decoded.array, array_rows=decoded.valid_rows, labels=labels, groups=groups, ids=[sample.id for sample in good],
        class_names=class_names, group_names=group_names, attributes=attributes, digest=decoded.digest, notes=notes,
        counts=counts,
    )  # fmt: skip
    return make_splits(images, rows)
