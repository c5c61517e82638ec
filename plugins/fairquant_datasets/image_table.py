"""Any csv table with a folder of images: the user's own data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairquant.roles.dataset import DataContext, Splits
from fairquant_datasets.tables import Sample, Table, build_splits, read_csv


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """One row per image.

    table: the csv file; folder: the folder that its image paths are relative to (null: the csv's own folder). image, label:
    columns; attributes: columns whose values define the groups (several: their intersection). split: optional column with
    train / validation / test; without it 60/20/20, stratified, rows with the same value of `patient` (a column) in the same
    split. unknown: values that count as unknown (the row is dropped and counted).
    """

    table: str
    image: str = "image"
    label: str = "label"
    attributes: tuple[str, ...] = ("group",)
    folder: str | None = None
    split: str | None = None
    patient: str | None = None
    unknown: tuple[str, ...] = ("", "unknown", "nan", "NA")
    split_seed: int | None = 42
    max_bad_images: int = 20

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError("attributes: name at least one column")

    def check(self) -> list[str]:
        """What is missing on this machine."""
        problems = []
        if not Path(self.table).is_file():
            problems.append(f"dataset.table: no file {self.table!r}. Give the path of your csv")
        if self.folder is not None and not Path(self.folder).is_dir():
            problems.append(
                f"dataset.folder: no folder {self.folder!r}. Give the folder that the image paths start from"
            )
        return problems

    def load(self, context: DataContext) -> Splits:
        """Read the table, decode the images and split them. Raises UserError."""
        file = Path(self.table)
        folder = Path(self.folder) if self.folder is not None else file.parent
        optional = [column for column in (self.split, self.patient) if column is not None]
        rows = read_csv(file, [self.image, self.label, *self.attributes, *optional])
        labelled = [row for row in rows if row[self.label] not in self.unknown]
        samples = [
            Sample(
                file=folder / row[self.image],
                id=row[self.image],
                label=row[self.label],
                attributes=tuple("" if row[name] in self.unknown else row[name] for name in self.attributes),
                key=row[self.patient] if self.patient else "",
                split=row[self.split] if self.split else "",
            )
            for row in labelled
        ]
        unlabelled = len(rows) - len(labelled)
        notes = [f"{unlabelled} row(s) without a label dropped"] if unlabelled else []
        table = Table(samples=samples, attributes=self.attributes, notes=notes)
        return build_splits(table, context, self.split_seed, self.max_bad_images)
