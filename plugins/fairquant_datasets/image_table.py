"""Any csv with a folder of images: the user's own data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairquant.roles.dataset import DataContext, Splits
from fairquant_datasets.tables import Sample, build_splits, read_csv


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """One row per image.

    table: the csv; folder: what its image paths are relative to (null: the csv's own folder). image, label: columns;
    attributes: columns whose values make the groups (several: their intersection). split: optional column with
    train / validation / test; without it 60/20/20, stratified, rows with the same value of `patient` (a column) on one
    side. unknown: values that count as unknown (the row is dropped and counted).
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
        problems = []
        if not Path(self.table).is_file():
            problems.append(f"dataset.table: no file {self.table!r}. Give the path of your csv")
        if self.folder is not None and not Path(self.folder).is_dir():
            problems.append(
                f"dataset.folder: no folder {self.folder!r}. Give the folder that the image paths start from"
            )
        return problems

    def load(self, context: DataContext) -> Splits:
        table = Path(self.table)
        folder = Path(self.folder) if self.folder is not None else table.parent
        optional = [column for column in (self.split, self.patient) if column is not None]
        rows = read_csv(table, [self.image, self.label, *self.attributes, *optional])
        samples, unlabelled = [], 0
        for row in rows:
            if row[self.label] in self.unknown:
                unlabelled += 1
                continue
            values = tuple("" if row[name] in self.unknown else row[name] for name in self.attributes)
            samples.append(
                Sample(
                    file=folder / row[self.image], id=row[self.image], label=row[self.label], attributes=values,
                    key=row[self.patient] if self.patient else "", split=row[self.split] if self.split else "",
                )
            )  # fmt: skip
        notes = [f"{unlabelled} row(s) without a label dropped"] if unlabelled else []
        return build_splits(
            samples, self.attributes, context, split_seed=context.seed if self.split_seed is None else self.split_seed,
            max_bad=self.max_bad_images, notes=notes, counts={},
        )  # fmt: skip
