"""ChestX-ray14 as the NIH gives it: a csv and a folder of png files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fairquant.data.images import decode_images
from fairquant.data.splits import encode_labels, make_splits, split_rows
from fairquant.errors import UserError
from fairquant.roles import DataContext, Splits

COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender")


@dataclass(frozen=True)
class ChestXray:
    """One finding against all other films; groups by sex or by age (under 40, 40 to 59, 60 and over).

    root holds Data_Entry_2017.csv and the images, in `images` or anywhere below. All films of a patient stay on one side.
    """

    root: str = "data/chest-xray14"
    finding: str = "Effusion"
    attribute: Literal["sex", "age"] = "sex"
    max_bad_images: int = 20

    @property
    def table(self) -> Path:
        return Path(self.root) / "Data_Entry_2017.csv"

    def check(self) -> list[str]:
        if self.table.is_file():
            return []
        return [f"dataset.root: no file {self.table}. Get ChestX-ray14 from the NIH Clinical Center, unpack it there"]

    def load(self, context: DataContext) -> Splits:
        with open(self.table, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        missing = [column for column in COLUMNS if not rows or column not in rows[0]]
        if missing:
            raise UserError(f"{self.table}: no column {', '.join(map(repr, missing))}")
        files = {file.name: file for file in Path(self.root).rglob("*.png")}
        usable = [row for row in rows if row["Image Index"] in files]
        if not usable:
            raise UserError(f"{self.root}: none of the {len(rows)} images of the table is there")
        decoded = decode_images([files[row["Image Index"]] for row in usable], context, self.max_bad_images)
        usable = [usable[row] for row in decoded.good]
        found = np.array([self.finding in row["Finding Labels"].split("|") for row in usable], np.int64)
        if len(set(found)) < 2:
            raise UserError(f"dataset.finding: {self.finding!r} is on all films or on none")
        groups, names = encode_labels([self._group(row) for row in usable])
        patients = [row["Patient ID"] for row in usable]
        notes = [f"{len(rows) - len(usable)} row(s) without their image left out"] if len(rows) > len(usable) else []
        return make_splits(
            decoded.array, decoded.good, found, groups, [row["Image Index"] for row in usable],
            split_rows(found, groups, context.seed, patients), ("other", self.finding), names, (self.attribute,),
            decoded.digest, notes,
        )  # fmt: skip

    def _group(self, row: dict[str, str]) -> str:
        if self.attribute == "sex":
            return {"M": "male", "F": "female"}.get(row["Patient Gender"], row["Patient Gender"])
        age = int(row["Patient Age"].rstrip("YMD") or 0)
        return "under 40" if age < 40 else "40 to 59" if age < 60 else "60 and over"
