"""ChestX-ray14 as the NIH publishes it: a csv file and a folder of png files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fairquant.data.images import decode_images
from fairquant.data.splits import LabelledImages, encode_labels, make_splits, split_rows
from fairquant.errors import UserError
from fairquant.roles import DataContext, Splits

COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender")


@dataclass(frozen=True)
class ChestXray:
    """One finding against all other images; groups by sex or by age (under 40, 40 to 59, 60 and over).

    root contains Data_Entry_2017.csv and the images, in any subfolder. All images of a patient go to the same split.
    """

    root: str = "data/chest-xray14"
    finding: str = "Effusion"
    attribute: Literal["sex", "age"] = "sex"
    max_bad_images: int = 20

    @property
    def table(self) -> Path:
        return Path(self.root) / "Data_Entry_2017.csv"

    def check(self) -> list[str]:
        """What is missing on this machine."""
        if self.table.is_file():
            return []
        return [f"dataset.root: no file {self.table}. Get ChestX-ray14 from the NIH Clinical Center, unpack it there"]

    def load(self, context: DataContext) -> Splits:
        """Read the table, decode the images and split them by patient. Raises UserError."""
        with open(self.table, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        missing = [column for column in COLUMNS if not rows or column not in rows[0]]
        if missing:
            raise UserError(f"{self.table}: no column {', '.join(map(repr, missing))}")
        files = {file.name: file for file in Path(self.root).rglob("*.png")}
        present = [row for row in rows if row["Image Index"] in files]
        if not present:
            raise UserError(f"{self.root}: none of the {len(rows)} images of the table exists")
        decoded = decode_images([files[row["Image Index"]] for row in present], context, self.max_bad_images)
        usable = [present[row] for row in decoded.valid_rows]
        labels = np.array([self.finding in row["Finding Labels"].split("|") for row in usable], np.int64)
        if len(set(labels)) < 2:
            raise UserError(f"dataset.finding: {self.finding!r} is in all images or in none")
        groups, group_names = encode_labels([self._group(row) for row in usable])
        dropped = len(rows) - len(usable)
        images = LabelledImages(
            array=decoded.array,
            array_rows=decoded.valid_rows,
            labels=labels,
            groups=groups,
            ids=[row["Image Index"] for row in usable],
            class_names=("other", self.finding),
            group_names=group_names,
            attributes=(self.attribute,),
            digest=decoded.digest,
            notes=[f"{dropped} row(s) without a readable image left out"] if dropped else [],
        )
        patients = [row["Patient ID"] for row in usable]
        return make_splits(images, split_rows(labels, groups, context.seed, patients))

    def _group(self, row: dict[str, str]) -> str:
        if self.attribute == "sex":
            return {"M": "male", "F": "female"}.get(row["Patient Gender"], row["Patient Gender"])
        age = int(row["Patient Age"].rstrip("YMD") or 0)
        return "under 40" if age < 40 else "40 to 59" if age < 60 else "60 and over"
