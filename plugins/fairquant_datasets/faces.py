"""Data sets of faces that the paper's official code reads: CelebA and FairFace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from fairquant.errors import UserError, suggestion
from fairquant_datasets.image_files import find_all
from fairquant_datasets.published import Published, every_tenth, first_folder
from fairquant_datasets.table_files import Row, read_csv, read_table, read_text
from fairquant_datasets.tables import Sample, Table
from fairquant_datasets.values import UNKNOWN, AttributeValues, LabelValues, attribute_values, canonical, label_values

PARTS = {"0": "train", "1": "validation", "2": "test"}


@dataclass(frozen=True, kw_only=True)
class CelebA(Published):
    """CelebA (Liu et al., ICCV 2015): 202,599 aligned faces with forty attributes, in the authors' files (.txt) or Kaggle's (.csv).

    label, attribute: one of the forty each, such as Smiling and Male; split: official (list_eval_partition) or random (60/20/20;
    the images of a person stay together where identity_CelebA.txt is there).
    """

    tables: ClassVar[tuple[str, ...]] = (
        "list_attr_celeba.txt", "list_attr_celeba.csv", "Anno/list_attr_celeba.txt",
    )  # fmt: skip
    images: ClassVar[int] = 202_599
    source: ClassVar[str] = "the Multimedia Laboratory of the Chinese University of Hong Kong"

    root: str = "data/celeba"
    label: str = "Smiling"
    attribute: str = "Male"
    split: Literal["official", "random"] = "official"

    def __post_init__(self) -> None:
        _differ(self.label, self.attribute)

    def check(self) -> list[str]:
        """What is missing on this machine."""
        if self.split == "official" and self._table() is not None and self._beside("list_eval_partition") is None:
            return [
                f"dataset.root: {self.root!r} lacks list_eval_partition.txt (or .csv), which dataset.split=official needs"
            ]
        return super().check()

    def read(self, table: Path) -> Table:
        """Every image with its label, its attribute and its part."""
        rows = _by_image(table)
        known = list(next(iter(rows.values()), {}))
        wrong = {key: name for key, name in (("label", self.label), ("attribute", self.attribute)) if name not in known}
        if wrong:
            raise UserError([f"dataset.{key}: {table} has no attribute {name!r}.{suggestion(name, known)} It has "
                             f"{', '.join(known)}" for key, name in wrong.items()])  # fmt: skip
        parts, people = {}, {}
        if self.split == "official":
            file = self._beside("list_eval_partition")
            parts = (
                {name: canonical(row["partition"]) for name, row in _by_image(file, "partition").items()}
                if file
                else {}
            )
            if odd := sorted({*parts.values()} - {*PARTS}):
                raise UserError(
                    f"{file}: partitions {', '.join(odd[:5])}; 0 (train), 1 (validation) and 2 (test) expected"
                )
        elif file := self._beside("identity_CelebA"):
            people = {name: row["person"] for name, row in _by_image(file, "person").items()}
        folder = first_folder(
            Path(self.root), "img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba"
        )
        names = list(rows) if self.split == "random" else [name for name in rows if parts.get(name) in PARTS]
        samples = [
            Sample(
                file=found, id=name, label=_said(self.label, rows[name], table, name),
                attributes=(_said(self.attribute, rows[name], table, name),),
                key=people.get(name, ""), split=PARTS.get(parts.get(name, ""), ""), place=f"{table}: {name}",
            )
            for name, found in zip(names, find_all(folder, names), strict=True)
        ]  # fmt: skip
        counts = {"rows": len(rows)}
        if absent := len(rows) - len(names):
            counts["dropped_in_no_part"] = absent
        return Table(
            samples=samples, attributes=[self.attribute], counts=counts,
            key_name="person" if people else None,
            notes=[f"{absent} row(s) dropped: list_eval_partition does not name them"] if absent else [],
        )  # fmt: skip

    def _beside(self, name: str) -> Path | None:
        """One of the data set's other files."""
        places = [
            Path(self.root) / folder / f"{name}{ending}"
            for folder in ("", "Anno", "Eval")
            for ending in (".txt", ".csv")
        ]
        return next((place for place in places if place.is_file()), None)


def _rows(file: Path, *columns: str) -> list[Row]:
    """The rows of one of CelebA's files. The authors' have no commas; those of attributes start with the number of rows and the
    attributes' names, the others have no head: columns names theirs."""
    if file.suffix == ".csv":
        return read_csv(file, ["image_id", *columns])
    lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
    if not columns:
        if len(lines) < 2 or len(lines[0]) != 1:
            raise UserError(f"{file}: its first line is not the number of images")
        columns, lines = tuple(lines[1]), lines[2:]
    if wrong := next((line for line in lines if len(line) != 1 + len(columns)), None):
        raise UserError(f"{file}: {wrong[0]} has {len(wrong) - 1} values, {len(columns)} expected")
    return [dict(zip(("image_id", *columns), line, strict=True)) for line in lines]


def _by_image(file: Path, *columns: str) -> dict[str, Row]:
    """Image -> its row. Raises UserError where an image is listed twice with other values."""
    rows: dict[str, Row] = {}
    twice = [name for row in _rows(file, *columns) if rows.setdefault(name := row.pop("image_id"), row) != row]
    if twice:
        raise UserError([f"{file}: {name} is listed twice, with other values" for name in twice[:10]])
    return rows


def _differ(label: str, attribute: str) -> None:
    if label == attribute:
        raise ValueError(f"attribute: {attribute} is the label already, choose another")


def _said(attribute: str, row: Row, table: Path, name: str) -> str:
    """An attribute is 1 or -1 (0 in some copies)."""
    value = canonical(row[attribute])
    if value not in ("1", "-1", "0"):
        raise UserError(f"{table}: {name}: {attribute} is {row[attribute]!r}, 1 or -1 expected")
    return attribute if value == "1" else f"not {attribute}"


Trait = Literal["race", "gender", "age"]


@dataclass(frozen=True, kw_only=True)
class FairFace(Published):
    """FairFace (Karkkainen and Joo, WACV 2021): 86,744 faces for training and 10,954 for validation, with race (7), gender (2) and age
    (9 ranges). label, attribute: two of these. split: official (the published validation part is the test set, a tenth of the
    training part the validation set) or random."""

    tables: ClassVar[tuple[str, ...]] = ("fairface_label_train.csv",)
    images: ClassVar[int] = 97_698
    source: ClassVar[str] = (
        "its authors (github.com/joojs/fairface), both tables and the images with padding 0.25 or 1.25"
    )

    root: str = "data/fairface"
    label: Trait = "gender"
    attribute: Trait = "race"
    split: Literal["official", "random"] = "official"

    def __post_init__(self) -> None:
        _differ(self.label, self.attribute)

    def check(self) -> list[str]:
        """What is missing on this machine."""
        if self._table() is not None and not (Path(self.root) / "fairface_label_val.csv").is_file():
            return [f"dataset.root: {self.root!r} lacks fairface_label_val.csv"]
        return super().check()

    def read(self, table: Path) -> Table:
        """Both tables."""
        root = Path(self.root)
        tables = [
            read_table(file, ["file", self.label, self.attribute])
            for file in (table, table.with_name("fairface_label_val.csv"))
        ]
        train, test = ([(row, each.at(number)) for number, row in enumerate(each.rows)] for each in tables)
        rows = [row for row, _ in (*train, *test)]
        labels, notes, wrong = label_values([row[self.label] for row in rows], LabelValues(column=self.label), UNKNOWN)
        groups, said, problems = attribute_values(
            self.attribute, [row[self.attribute] for row in rows], AttributeValues(), UNKNOWN
        )
        if wrong or problems:
            raise UserError([f"{table}: {problem}" for problem in (*wrong, *problems)])
        validation = every_tenth(row["file"] for row, _ in train)
        folder = first_folder(root, "fairface-img-margin025-trainval", "fairface-img-margin125-trainval")
        folder = root if (root / "train").is_dir() else folder
        names = [row["file"] for row in rows]
        parts = ["validation" if name in validation else "train" for name in names[: len(train)]] + ["test"] * len(test)
        samples = [
            Sample(
                file=found, id=name, label=label, attributes=(group,), place=place,
                split=part if self.split == "official" else "",
            )
            for name, label, group, (_, place), part, found in zip(
                names, labels, groups, (*train, *test), parts, find_all(folder, names), strict=True
            )
            if label
        ]  # fmt: skip
        counts = {"rows": len(names)}
        if dropped := len(names) - len(samples):
            counts["dropped_unlabelled"] = dropped
        return Table(samples=samples, attributes=[self.attribute], notes=[*notes, *said], counts=counts, key_name=None)
