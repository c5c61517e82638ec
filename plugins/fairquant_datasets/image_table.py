"""Any table with a folder of images: the user's own data."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

from fairquant.errors import UserError
from fairquant.roles.dataset import JOINED, DataContext, Intensity, Splits, SplitSeed
from fairquant_datasets.image_files import bare, find_all
from fairquant_datasets.table_files import TableFile, read_table, read_text
from fairquant_datasets.tables import Sample, Table, build_splits
from fairquant_datasets.values import (
    UNKNOWN,
    AttributeValues,
    Declared,
    LabelValues,
    Value,
    attribute_values,
    bin_names,
    canonical,
    label_values,
    one_hot,
)


@dataclass(frozen=True, kw_only=True)
class SplitLists(Declared):
    """Text files with one image a line, as the table names it (with or without ending): what was trained, chosen and tested on."""

    train: str
    validation: str
    test: str


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """One row per image.

    table: csv (any separator and encoding), Parquet or Excel; folder: what its image paths are relative to (null: the table's own
    folder); endings and sub-folders may be left out. image: column. label: column, or `{column, map, drop, blank}`; label_columns: in
    its place, columns of which exactly one is 1. attributes: columns whose values define the groups (several: their intersection),
    each with `{map, bins, unknown}` where needed. split: column with train / validation / test, or `{train, validation, test}` with
    lists of images; without it 60/20/20, stratified, rows with the same value of `patient` (a column) and equal pictures in the
    same split. unknown: values that count as unknown (the row is dropped and counted). intensity: how images with more than 8 bits are
    read: full, percentile, or [low, high]. near_duplicates: name pictures that are nearly the same.
    """

    private: ClassVar[tuple[str, ...]] = (
        "table", "image", "label", "label_columns", "attributes", "folder", "split", "patient", "unknown",
    )  # fmt: skip
    table: str
    image: str = "image"
    label: str | LabelValues = "label"
    label_columns: tuple[str, ...] = ()
    attributes: tuple[str, ...] | dict[str, AttributeValues] = ("group",)
    folder: str | None = None
    split: str | SplitLists | None = None
    patient: str | None = None
    unknown: tuple[Value, ...] = UNKNOWN
    intensity: Intensity = "full"
    near_duplicates: bool = False
    split_seed: SplitSeed | None = 42
    max_bad_images: int = 20

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError("attributes: name at least one column")
        if isinstance(self.intensity, tuple) and not -math.inf < self.intensity[0] < self.intensity[1] < math.inf:
            raise ValueError(f"intensity: low must be below high, both finite, got {list(self.intensity)}")

    def check(self) -> list[str]:
        """What is missing on this machine."""
        problems = []
        if not Path(self.table).is_file():
            problems.append(f"dataset.table: no file {self.table!r}. Give the path of your csv")
        if self.folder is not None and not Path(self.folder).is_dir():
            problems.append(
                f"dataset.folder: no folder {self.folder!r}. Give the folder that the image paths start from"
            )
        if isinstance(self.split, SplitLists):
            problems += [
                f"dataset.split.{name}: no file {file!r}"
                for name, file in self._lists(self.split).items()
                if not Path(file).is_file()
            ]
        return problems or self._wrong()

    def _wrong(self) -> list[str]:
        """What is wrong in the table itself."""
        try:
            self.read()
        except UserError as error:
            return list(error.problems)
        return []

    def load(self, context: DataContext) -> Splits:
        """Read the table, decode the images and split them. Raises UserError."""
        return build_splits(self.read(), context, self.split_seed, self.max_bad_images)

    def read(self) -> Table:
        """The table without its images. Raises UserError with everything that is wrong in it."""
        file = Path(self.table)
        table = read_table(file, self._needed())
        notes = list(table.notes)
        problems: list[str] = []
        labels = self._labels(table, notes, problems)
        groups = self._groups(table, notes, problems)
        if problems:
            raise UserError([f"{file}: {problem}" for problem in problems])
        kept = [row for row, label in enumerate(labels) if label]
        if not kept:
            raise UserError(f"{file}: none of the {len(labels)} rows has a label")
        names = [table.rows[row][self.image] for row in kept]
        if nameless := [table.at(row) for row, name in zip(kept, names, strict=True) if not name]:
            raise UserError(f"{nameless[0]}: no image is named ({len(nameless)} row(s))")
        files = find_all(Path(self.folder) if self.folder is not None else file.parent, names)
        samples = [
            Sample(
                file=found, id=name, label=labels[row], attributes=tuple(each[row] for each in groups.values()),
                key=key, split=split, place=table.at(row),
            )
            for row, name, found, key, split in zip(
                kept, names, files, self._patients(table, kept), self._splits(table, kept, notes), strict=True
            )
        ]  # fmt: skip
        counts = {"rows": len(labels)}
        if dropped := len(labels) - len(kept):
            counts["dropped_unlabelled"] = dropped
        if isinstance(self.split, SplitLists):
            samples = self._listed(samples, notes, counts)
        order = self._order([set(each) - {""} for each in groups.values()])
        return Table(
            samples=samples, attributes=list(groups), notes=notes, counts=counts, group_order=order,
            key_name=self.patient, intensity=self.intensity, check_near_duplicates=self.near_duplicates,
        )  # fmt: skip

    def _groups(self, table: TableFile, notes: list[str], problems: list[str]) -> dict[str, list[str]]:
        """The value of each attribute in each row, "" where it is unknown."""
        declared = (
            self.attributes
            if isinstance(self.attributes, Mapping)
            else dict.fromkeys(self.attributes, AttributeValues())
        )
        groups = {}
        for name, how in declared.items():
            groups[name], said, wrong = attribute_values(name, self._column(table, name), how, self.unknown)
            notes += said
            problems += wrong
        return groups

    def _order(self, values: Sequence[Set[str]]) -> list[str] | None:
        """The groups that the values of each attribute can make, bins in their order and other values sorted; None: all sorted."""
        if not isinstance(self.attributes, Mapping) or not any(each.bins for each in self.attributes.values()):
            return None
        ordered = []
        for declared, occurring in zip(self.attributes.values(), values, strict=True):
            bins = bin_names(declared.bins) if declared.bins else []
            ordered.append([*(each for each in bins if each in occurring), *sorted(occurring - {*bins})])
        return [JOINED.join(each) for each in product(*ordered)]

    def _needed(self) -> list[str]:
        """The columns that must be there."""
        label = self.label.column if isinstance(self.label, LabelValues) else self.label
        columns = [self.image, *(self.label_columns or [label]), *self.attributes]
        columns += [self.split] if isinstance(self.split, str) else []
        return list(dict.fromkeys([*columns, *([self.patient] if self.patient else [])]))

    def _column(self, table: TableFile, name: str) -> list[str]:
        return [row[name] for row in table.rows]

    def _labels(self, table: TableFile, notes: list[str], problems: list[str]) -> list[str]:
        """The class of each row, "" where it is left out."""
        if self.label_columns:
            columns = {name: self._column(table, name) for name in self.label_columns}
            labels, said, wrong = one_hot(columns, [table.at(row) for row in range(len(table.rows))])
        else:
            how = self.label if isinstance(self.label, LabelValues) else LabelValues(column=self.label)
            labels, said, wrong = label_values(self._column(table, how.column), how, self.unknown)
        notes += said
        problems += wrong
        return labels

    def _patients(self, table: TableFile, kept: Sequence[int]) -> list[str]:
        """The patient of each kept row; "" where it is unknown."""
        if self.patient is None:
            return [""] * len(kept)
        unknown = {canonical(each) for each in (*UNKNOWN, *self.unknown)}
        patients = [canonical(table.rows[row][self.patient]) for row in kept]  # 1 and 1.0 are one patient
        return ["" if patient in unknown else patient for patient in patients]

    @staticmethod
    def _lists(split: SplitLists) -> dict[str, str]:
        return {"train": split.train, "validation": split.validation, "test": split.test}

    def _splits(self, table: TableFile, kept: Sequence[int], notes: list[str]) -> list[str]:
        """The split of each kept row, "" where it is drawn or in no list."""
        if self.split is None:
            return [""] * len(kept)
        if isinstance(self.split, str):
            column = self.split
            given = [table.rows[row][column] for row in kept]
            if not any(given):
                raise UserError(
                    f"{self.table}: the split column {column!r} is blank in every row: fill it, or leave dataset.split out"
                )
            return given
        member: dict[str, str] = {}
        problems = []
        for name, file in self._lists(self.split).items():
            for line, text in enumerate(read_text(Path(file)).splitlines(), 1):
                if (image := _key(text)) and member.setdefault(image, name) != name:
                    problems.append(f"{file}:{line}: {text.strip()} is in the list of {member[image]} as well")
        images = [_key(table.rows[row][self.image]) for row in kept]
        listed, usable = {_key(row[self.image]) for row in table.rows}, {*images, *map(bare, images)}
        unusable = [image for image in member if image in listed - usable or image in set(map(bare, listed)) - usable]
        foreign = [image for image in member if image not in usable and image not in set(unusable)]
        if unusable:
            notes.append(f"{len(unusable)} image(s) of the lists have no label that is used, such as {unusable[0]}")
        if foreign:
            shown = ", ".join(foreign[:3])
            notes.append(
                f"{len(foreign)} image(s) of the lists are in no row of the table, which names images as {images[0]}: {shown}"
            )
        if problems:
            raise UserError(problems[:10])
        without = {
            bare(image): name for image, name in member.items() if bare(image) == image
        }  # written without ending
        full = {bare(image): name for image, name in member.items()}
        return [
            member.get(image) or without.get(bare(image)) or (full.get(image, "") if bare(image) == image else "")
            for image in images
        ]

    def _listed(self, samples: Sequence[Sample], notes: list[str], counts: dict[str, int]) -> list[Sample]:
        """The samples that stand in a list."""
        kept = [sample for sample in samples if sample.split]
        if dropped := len(samples) - len(kept):
            notes.append(f"{dropped} image(s) dropped: they are in none of the lists of dataset.split")
            counts["dropped_in_no_list"] = dropped
        if not kept:
            raise UserError(
                f"dataset.split: no image of the lists is in {self.table}, which names them as {samples[0].id!r}"
            )
        return kept


def _key(image: str) -> str:
    """One spelling for the names of a list and of the table."""
    return unicodedata.normalize("NFC", image.strip().replace("\\", "/")).casefold()
