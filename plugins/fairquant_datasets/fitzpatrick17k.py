"""Fitzpatrick17k: clinical photographs of skin conditions by Fitzpatrick skin type (Groh et al., CVPRW 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Source, Splits, SplitSeed
from fairquant_datasets.image_files import filled
from fairquant_datasets.table_files import Row, read_csv, read_table
from fairquant_datasets.tables import Sample, Table, build_splits
from fairquant_datasets.values import BLANK, as_number, canonical

TABLE_URL = "https://raw.githubusercontent.com/mattgroh/fitzpatrick17k/main/fitzpatrick17k.csv"
TABLE, FOLDERS = "fitzpatrick17k.csv", ("images", "dataset_images")
LABEL_COLUMNS = {114: "label", 9: "nine_partition_label", 3: "three_partition_label"}


@dataclass(frozen=True, kw_only=True)
class Fitzpatrick17k:
    """fitzpatrick17k.csv and images/<md5hash>.jpg under `root`; or the folder that the paper's official code prepares: dataset_images/
    in place of images/, and train_score.csv with all_val.csv in place of one table.

    labels: 114 conditions, or 9 or 3 partitions of them. groups: "binary" (types 1-3 / 4-6) or "six". Type -1 and rows
    that quality control marks "3 Wrongly labelled" are dropped and counted. The official table has `fitzpatrick_scale`;
    an older edition calls it `fitzpatrick` and comes with train_score.csv and all_val.csv.
    split: "random" (60/20/20, stratified, split_seed; null: the run's seed) or "files": all_val.csv is the test set,
    a fifth of train_score.csv the validation set, so that test images are not used for model selection.
    """

    private: ClassVar[tuple[str, ...]] = ("root",)
    root: str = "data/fitzpatrick17k"
    labels: Literal[114, 9, 3] = 114
    groups: Literal["binary", "six"] = "binary"
    split: Literal["random", "files"] = "random"
    split_seed: SplitSeed | None = 42
    max_bad_images: int = 20

    def check(self) -> list[str]:
        """What is missing on this machine."""
        root = Path(self.root)
        needed = [] if self._tables()[0].is_file() else ["fitzpatrick17k.csv"]
        needed += ["train_score.csv", "all_val.csv"] if self.split == "files" else []
        missing = [name for name in needed if not (root / name).exists()]
        missing += [] if self._folder().is_dir() else ["images"]
        if not missing:
            return []
        return [
            f"dataset.root: {self.root!r} lacks {', '.join(missing)}. Fetch them with 'fairquant data prepare "
            "fitzpatrick17k' (the authors' table and the images it names), or set dataset.root=FOLDER. "
            "To try everything without them, add --demo"
        ]

    def sources(self) -> tuple[Source, ...]:
        """The authors' table and, once it is downloaded, the images at their original sites (some no longer exist)."""
        table = Path(self.root) / "fitzpatrick17k.csv"
        sources = [Source(TABLE_URL, "fitzpatrick17k.csv")]
        if table.is_file():
            rows = read_csv(table, ["md5hash", "url"])
            sources += [Source(row["url"], f"images/{row['md5hash']}.jpg") for row in rows if row["url"]]
        return tuple(sources)

    def load(self, context: DataContext) -> Splits:
        """Read the table, decode the images and split them. Raises UserError."""
        root = Path(self.root)
        column = LABEL_COLUMNS[self.labels]
        rows, places, types = self._rows(column)
        folder = self._folder()
        files = {file.stem: file for file in folder.iterdir()}  # one listing, not 16,577 look-ups
        given = self._given_splits(root) if self.split == "files" else {}
        right = [number for number, row in enumerate(rows) if not row.get("qc", "").startswith("3")]
        labelled = [number for number in right if canonical(rows[number][column]) not in BLANK]
        samples = [
            Sample(
                file=files.get(name, folder / f"{name}.jpg"), id=name, label=rows[number][column],
                attributes=(self._group(types[number]),), split=given.get(name, ""), place=places[number],
            )
            for number in labelled
            for name in [rows[number]["md5hash"]]
            if not given or name in given
        ]  # fmt: skip
        wrong, blank = len(rows) - len(right), len(right) - len(labelled)
        notes = [f"{wrong} row(s) dropped: marked as wrongly labelled"] if wrong else []
        notes += [f"{blank} row(s) dropped: no {column}"] if blank else []
        table = Table(
            samples=samples,
            attributes=["skin type"],
            notes=notes,
            counts={"rows": len(rows)}
            | ({"dropped_wrongly_labelled": wrong} if wrong else {})
            | ({"dropped_unlabelled": blank} if blank else {}),
        )
        return build_splits(table, context, self.split_seed, self.max_bad_images)

    def _folder(self) -> Path:
        """The folder of images."""
        places = [Path(self.root) / name for name in FOLDERS]
        return next((each for each in places if filled(each)), places[0])

    def _tables(self) -> list[Path]:
        """The authors' table, or the two that the official code splits it into."""
        root = Path(self.root)
        parts = [root / name for name in ("train_score.csv", "all_val.csv")]
        return parts if not (root / TABLE).is_file() and all(map(Path.is_file, parts)) else [root / TABLE]

    def _rows(self, column: str) -> tuple[list[Row], list[str], list[str]]:
        """The rows of all tables, where each stands, and its skin type as it is written."""
        rows: list[Row] = []
        places: list[str] = []
        types: list[str] = []
        for file in self._tables():
            table = read_table(file, ["md5hash", column], all_columns=True)
            scale = next((name for name in ("fitzpatrick_scale", "fitzpatrick") if name in table.columns), None)
            if scale is None:
                raise UserError(f"{file}: no column 'fitzpatrick_scale' (nor the older 'fitzpatrick')")
            rows += table.rows
            places += [table.at(number) for number in range(len(table.rows))]
            types += [row[scale] for row in table.rows]
        return rows, places, types

    def _group(self, written: str) -> str:
        """The group of a skin type; "" where it is unknown."""
        skin_type = as_number(written)
        if skin_type not in (1, 2, 3, 4, 5, 6):
            return ""
        assert skin_type is not None
        skin_type = int(skin_type)
        if self.groups == "six":
            return f"type {skin_type}"
        return "types 1-3" if skin_type <= 3 else "types 4-6"

    def _given_splits(self, root: Path) -> dict[str, str]:
        """md5hash -> split; every fifth training row in the order of the hashes is validation."""
        train = sorted({row["md5hash"] for row in read_csv(root / "train_score.csv", ["md5hash"])})
        test = {row["md5hash"] for row in read_csv(root / "all_val.csv", ["md5hash"])}
        if both := test & set(train):
            raise UserError(
                f"{root}: {len(both)} image(s) are in both train_score.csv and all_val.csv, first {min(both)}"
            )
        splits = {name: "validation" if number % 5 == 4 else "train" for number, name in enumerate(train)}
        return {**splits, **dict.fromkeys(test, "test")}
