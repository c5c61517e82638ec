"""From the rows of a table to splits: rows that are dropped are counted, groups are intersections, and no patient and no picture is
on two sides."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fairquant.data.duplicates import near_duplicates, one_side, separate, together
from fairquant.data.images import Decoded, decode_images
from fairquant.data.splits import (
    LabelledImages,
    encode_labels,
    make_splits,
    rows_by_name,
    split_name,
    split_rows,
)
from fairquant.errors import UserError
from fairquant.roles.dataset import JOINED, DataContext, IntArray, Intensity, Splits
from fairquant_datasets.image_files import is_file


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and what is known about it. attributes: one value per attribute, "" where unknown; key: the lesion or
    patient, all of whose images go to the same split ("": an image for itself); split: the given split, "" where there is none;
    place: file and line, for messages."""

    file: Path
    id: str
    label: str
    attributes: tuple[str, ...]
    key: str = ""
    split: str = ""
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A data set as read from its files. attributes: names of the samples' attributes; class_order, group_order: all
    possible names in their order (None: those that occur, sorted); notes, counts: what was dropped while reading; key_name: what a
    key is called (None: the table says nothing of patients); intensity: as in `Splits`; check_near_duplicates: look for
    pictures that are nearly the same."""

    samples: Sequence[Sample]
    attributes: Sequence[str]
    class_order: Sequence[str] | None = None
    group_order: Sequence[str] | None = None
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    key_name: str | None = "lesion or patient"
    intensity: Intensity = "full"
    check_near_duplicates: bool = False


def build_splits(table: Table, context: DataContext, split_seed: int | None, max_bad: int) -> Splits:
    """Decode the images and split them, as given or 60/20/20 with split_seed (None: the run's seed).

    Images with an unknown attribute, without a file, that are listed twice or do not decode are dropped, counted and noted. Equal
    pictures (the same bytes) and all of a patient's stay in one split. UserError where no image remains, more than max_bad images do
    not decode, there are fewer than two classes, or a given split has a patient on two sides.
    """
    notes, counts = list(table.notes), {"rows": len(table.samples), **table.counts}
    present = _listed_once(_with_known_attributes_and_file(table, notes, counts), table.attributes, notes, counts)
    decoded = decode_images([sample.file for sample in present], context, max_bad, table.intensity)
    notes += decoded.notes
    if decoded.failures:
        names = ", ".join(Path(name).name for name in list(decoded.failures)[:5])
        reasons = list(dict.fromkeys(decoded.failures.values()))
        more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
        notes.append(f"{len(decoded.failures)} image(s) do not decode and are skipped: {names}. {reasons[0]}{more}")
        counts["undecodable"] = len(decoded.failures)
    kept, digests, keys = _on_one_side([present[row] for row in decoded.valid_rows], decoded, table, notes, counts)
    samples = [present[row] for row in kept]
    _check_attributes(samples, table.attributes)
    labels, class_names = _encode([sample.label for sample in samples], table.class_order)
    if gone := sorted({sample.label for sample in table.samples} - set(class_names)):
        notes.append(f"class(es) of which no image can be used: {', '.join(gone)}")
    if unused := [name for name in table.class_order or () if name not in (*class_names, *gone)]:
        notes.append(f"class(es) without images left out: {', '.join(unused)}")
    groups, group_names = _encode([JOINED.join(sample.attributes) for sample in samples], table.group_order)
    if len(group_names) == 1:
        notes.append(f"all {len(samples)} images are in one group ({group_names[0]}): no groups can be compared")
    if len(class_names) < 2:
        raise UserError(
            f"dataset: all {len(samples)} images are labelled {', '.join(class_names)}; a classifier needs two classes"
        )
    given = any(sample.split for sample in samples)
    seed = context.seed if split_seed is None else split_seed
    rows = rows_by_name([sample.split for sample in samples]) if given else split_rows(labels, groups, seed, keys)
    if not given and keys is None:
        rows = together(rows, digests)
        if not all(map(len, rows)):
            raise UserError("dataset: too few different pictures for train, validation and test")
    images = LabelledImages(
        array=decoded.array, array_rows=kept, labels=labels, groups=groups, ids=[sample.id for sample in samples],
        class_names=class_names, group_names=group_names, attributes=table.attributes, digest=decoded.digest,
        notes=notes, counts=counts, given=given, intensity=table.intensity,
    )  # fmt: skip
    return make_splits(images, rows)


def _with_known_attributes_and_file(table: Table, notes: list[str], counts: dict[str, int]) -> list[Sample]:
    """The samples that can be used; notes and counts are extended by what was dropped."""
    if not table.samples:
        raise UserError("dataset: the table has no usable rows")
    known = [sample for sample in table.samples if all(sample.attributes)]
    if dropped := len(table.samples) - len(known):
        notes.append(f"{dropped} image(s) dropped: {' or '.join(table.attributes)} unknown")
        counts["dropped_unknown"] = dropped
    if not known:
        raise UserError(f"dataset: {' or '.join(table.attributes)} is unknown in all {len(table.samples)} rows")
    present = [sample for sample in known if is_file(sample.file)]
    if absent := len(known) - len(present):
        examples = ", ".join(sample.id for sample in known if not is_file(sample.file))[:90]
        notes.append(f"{absent} row(s) without an image file: {examples}{'...' if absent > 2 else ''}")
        counts["without_image"] = absent
    if not present:
        raise UserError(
            f"dataset: none of the {len(known)} rows has an image file. Looked for {known[0].file} and the like"
        )
    return present


def _contradiction(sample: Sample, other: Sample, attributes: Sequence[str]) -> str:
    """In what two rows of one image differ; "" where they say the same."""
    pairs = [
        ("label", sample.label, other.label),
        ("patient", sample.key, other.key),
        ("split", sample.split, other.split),
    ]
    pairs += list(zip(attributes, sample.attributes, other.attributes, strict=True))
    return " and ".join(f"{name} {was!r}, here {now!r}" for name, now, was in pairs if now != was)


def _listed_once(
    samples: Sequence[Sample], attributes: Sequence[str], notes: list[str], counts: dict[str, int]
) -> list[Sample]:
    """The samples without those whose file was listed before. UserError where two rows of a file contradict each other."""
    first: dict[str, Sample] = {}
    problems = []
    for sample in samples:
        other = first.setdefault(os.path.realpath(sample.file), sample)
        if contradiction := _contradiction(sample, other, attributes):
            problems.append(f"{sample.place}: {sample.id} is listed in {other.place} with {contradiction}")
    if problems:
        raise UserError([*problems[:10], *([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])])
    if again := len(samples) - len(first):
        notes.append(f"{again} row(s) dropped: their image file is listed before")
        counts["dropped_listed_twice"] = again
    return list(first.values())


def _on_one_side(
    samples: Sequence[Sample], decoded: Decoded, table: Table, notes: list[str], counts: dict[str, int]
) -> tuple[IntArray, list[str], list[str] | None]:
    """The rows of the array that are used, their digests, and for each the key of all that must stay in one split (None: no
    patients are known). UserError for a patient on two sides of the given splits."""
    digests = [decoded.digests[row] for row in decoded.valid_rows]
    equal = Counter(digests)
    copies = len(digests) - len(equal)
    if table.check_near_duplicates:
        notes += near_duplicates(decoded.array, decoded.valid_rows, [sample.id for sample in samples])
    if copies:
        notes.append(f"{copies} image(s) are copies of others, byte by byte: {_copies(samples, digests, equal)}")
        counts["copies"] = copies
        for what, of in (("labels", [s.label for s in samples]), ("groups", [s.attributes for s in samples])):
            said: dict[str, set[object]] = {}
            for digest, value in zip(digests, of, strict=True):
                said.setdefault(digest, set()).add(value)
            if mixed := sum(len(each) > 1 for each in said.values()):
                notes.append(f"{mixed} of these pictures stand under different {what}: at most one of them is right")
    keys = [sample.key for sample in samples]
    if any(keys) and (blank := keys.count("")):
        notes.append(f"{blank} image(s) have no {table.key_name}: each counts as one of its own")
    key, most = Counter(filter(None, keys)).most_common(1)[0] if any(keys) else ("", 0)
    if most > max(20, len(keys) / 10):
        notes.append(
            f"{most} of {len(keys)} images are of {table.key_name} {key!r}, and stand in one split: if that means unknown, list it in "
            "dataset.unknown"
        )
    splits = [sample.split for sample in samples]
    if any(splits):
        _one_side_each(samples, table.key_name or "patient")
        stays = separate(splits, digests)
        if dropped := len(splits) - len(stays):
            notes.append(f"{dropped} image(s) dropped: the same picture is in test, or in validation, as well")
            counts["dropped_on_two_sides"] = dropped
        return decoded.valid_rows[stays], [digests[row] for row in stays], None
    if not any(keys) and table.key_name is None:
        notes.append(
            "no column names the patient (dataset.patient): images of one patient may stand in train and in test, which makes "
            "results too good"
        )
    return decoded.valid_rows, digests, one_side(keys, digests) if any(keys) else None


def _copies(samples: Sequence[Sample], digests: Sequence[str], equal: Mapping[str, int]) -> str:
    """Up to three pairs of copies."""
    names: dict[str, list[str]] = {}
    for sample, digest in zip(samples, digests, strict=True):
        if equal[digest] > 1:
            names.setdefault(digest, []).append(sample.id)
    shown = [" = ".join(each[:3]) for each in list(names.values())[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _one_side_each(samples: Sequence[Sample], what: str) -> None:
    """UserError for a key that is on two sides of the given splits."""
    sides: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        if sample.key:
            sides.setdefault(sample.key, {}).setdefault(split_name(sample.split), sample)
    torn = {key: each for key, each in sides.items() if len(each) > 1}
    if torn:
        listed = [
            f"{what} {key!r} is in {' and in '.join(f'{sample.split} ({sample.place})' for sample in each.values())}"
            for key, each in list(torn.items())[:5]
        ]
        more = [f"... and {len(torn) - 5} more"] if len(torn) > 5 else []
        raise UserError([*listed, *more, f"Each {what} must be in one split: change the split column, or leave it out"])


def _check_attributes(samples: Sequence[Sample], attributes: Sequence[str]) -> None:
    """UserError where a value contains what joins the values of several attributes in the names of groups."""
    if len(attributes) < 2:
        return
    values = {(name, value) for sample in samples for name, value in zip(attributes, sample.attributes, strict=True)}
    if joined := sorted(each for each in values if JOINED in each[1]):
        raise UserError([f"dataset: {name} {value!r} contains {JOINED!r}, which joins the values of several attributes in "
                         "names of groups. Give it another name in the attribute's map" for name, value in joined])  # fmt: skip


def _encode(values: Sequence[str], order: Sequence[str] | None) -> tuple[IntArray, tuple[str, ...]]:
    """Numbers [N] of the N values, and the names that occur, in the given order or sorted."""
    if order is None:
        return encode_labels(values)
    occurring = set(values)
    names = tuple(name for name in order if name in occurring)
    number = {name: place for place, name in enumerate(names)}
    return np.array([number[value] for value in values], np.int64), names
