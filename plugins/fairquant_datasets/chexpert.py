"""CheXpert: chest radiographs of one finding, by sex or age."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from fairquant.errors import UserError, suggestion
from fairquant_datasets.image_files import find_all
from fairquant_datasets.published import SEX, Published, by_age, every_tenth
from fairquant_datasets.table_files import TableFile, read_table
from fairquant_datasets.tables import Sample, Table
from fairquant_datasets.values import UNKNOWN, LabelValues, Value, attribute_values, bin_names, label_values

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
VIEW = "Frontal/Lateral"


@dataclass(frozen=True, kw_only=True)
class CheXpert(Published):
    """CheXpert (Irvin et al., AAAI 2019), the small or the full edition: 223,414 radiographs of 64,540 patients in train.csv, 234 of
    other patients in valid.csv.

    finding: one of the fourteen columns, positive against negative; blank: what a blank is, negative (the report does not mention it)
    or drop; uncertain: what -1 is, drop, positive or negative. view: frontal, lateral or all. attribute: sex, age (under `age_edge` /
    `age_edge` and over) or sex-age. split: random (train.csv 60/20/20 by patient; valid.csv is too small to judge groups) or files
    (valid.csv is the test set, a tenth of the patients of train.csv the validation set).
    """

    tables: ClassVar[tuple[str, ...]] = ("train.csv", "CheXpert-v1.0-small/train.csv", "CheXpert-v1.0/train.csv")
    images: ClassVar[int] = 223_414
    source: ClassVar[str] = "the Stanford AIMI centre (after registration)"

    root: str = "data/chexpert"
    finding: str = "Pleural Effusion"
    blank: Literal["negative", "drop"] = "negative"
    uncertain: Literal["drop", "positive", "negative"] = "drop"
    view: Literal["frontal", "lateral", "all"] = "frontal"
    attribute: Literal["sex", "age", "sex-age"] = "sex"
    age_edge: int = 60
    split: Literal["random", "files"] = "random"

    def __post_init__(self) -> None:
        if self.finding not in FINDINGS:
            raise ValueError(
                f"finding: {self.finding!r} is none of {', '.join(FINDINGS)}.{suggestion(self.finding, FINDINGS)}"
            )

    def check(self) -> list[str]:
        """What is missing on this machine."""
        table = self._table()
        if self.split == "files" and table is not None and not table.with_name("valid.csv").is_file():
            return [f"dataset.root: {str(table.parent)!r} lacks valid.csv, which dataset.split=files needs"]
        return super().check()

    def read(self, table: Path) -> Table:
        """train.csv, and valid.csv where the split is that of the files."""
        samples, notes, dropped = self._samples(table)
        counts = {"rows": dropped.pop("rows"), **dropped}
        if self.split == "files":
            validation = every_tenth(sample.key for sample in samples)
            samples = [_in(sample, "validation" if sample.key in validation else "train") for sample in samples]
            test, more, gone = self._samples(table.with_name("valid.csv"))
            samples += [_in(sample, "test") for sample in test]
            notes += [f"valid.csv: {note}" for note in more]
            counts |= {name: counts.get(name, 0) + number for name, number in gone.items() if name != "rows"}
        order = bin_names((self.age_edge,)) if self.attribute == "age" else None
        return Table(
            samples=samples, attributes=self.attribute.split("-"), class_order=("negative", "positive"), group_order=order,
            notes=notes, counts=counts, key_name="patient",
        )  # fmt: skip

    def _samples(self, file: Path) -> tuple[list[Sample], list[str], dict[str, int]]:
        """The images of a table, notes, and how many rows were dropped for what."""
        columns = {"sex": ("Sex", SEX), "age": ("Age", by_age(self.age_edge))}
        chosen = [columns[name] for name in self.attribute.split("-")]
        table = read_table(file, ["Path", VIEW, self.finding, *(name for name, _ in chosen)])
        classes, notes, problems = label_values(_column(table, self.finding), self._label(), UNKNOWN)
        groups = []
        for name, values in chosen:
            found, said, wrong = attribute_values(name, _column(table, name), values, UNKNOWN)
            groups.append(found)
            notes += said
            problems += wrong
        if problems:
            raise UserError([f"{file}: {problem}" for problem in problems])
        views = _column(table, VIEW)
        seen = [row for row, view in enumerate(views) if self.view in ("all", view.casefold())]
        kept = [row for row in seen if classes[row]]
        if not kept:
            raise UserError(f"{file}: no row with view {self.view} has {self.finding} positive or negative")
        # the table's paths start with the edition's name, whatever the folder is called here
        paths = [table.rows[row]["Path"].replace("\\", "/").partition("/")[2] for row in kept]
        if odd := [row for row, path in zip(kept, paths, strict=True) if path.count("/") < 2]:
            raise UserError([
                f"{table.at(row)}: Path is {table.rows[row]['Path']!r}, EDITION/train/patient.../study.../view... expected"
                for row in odd[:10]
            ])  # fmt: skip
        files = find_all(file.parent, paths)
        samples = [
            Sample(
                file=found, id=path, label=classes[row], attributes=tuple(each[row] for each in groups),
                key=path.split("/")[1], place=table.at(row),
            )
            for row, path, found in zip(kept, paths, files, strict=True)
        ]  # fmt: skip
        counts = {
            "rows": len(views), "dropped_other_view": len(views) - len(seen), "dropped_unlabelled": len(seen) - len(kept),
        }  # fmt: skip
        return samples, notes, {name: count for name, count in counts.items() if count or name == "rows"}

    def _label(self) -> LabelValues:
        meaning: dict[Value, Value | None] = {1: "positive", 0: "negative"}
        if self.uncertain != "drop":
            meaning[-1] = self.uncertain
        return LabelValues(
            column=self.finding, map=meaning, drop=(-1,) if self.uncertain == "drop" else (),
            blank="negative" if self.blank == "negative" else None,
        )  # fmt: skip


def _column(table: TableFile, name: str) -> list[str]:
    return [row[name] for row in table.rows]


def _in(sample: Sample, split: str) -> Sample:
    return replace(sample, split=split)
