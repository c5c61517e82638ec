"""ISIC 2019: dermoscopic images of skin lesions, with sex and age (ISIC 2019 challenge; HAM10000, BCN20000, MSK)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Source, Splits, SplitSeed
from fairquant_datasets.image_files import ENDINGS, filled
from fairquant_datasets.table_files import Row, read_table
from fairquant_datasets.tables import Sample, Table, build_splits
from fairquant_datasets.values import as_number, one_hot

Attribute = Literal["sex", "age", "sex-age"]

SITE = "https://isic-challenge-data.s3.amazonaws.com/2019"
FOLDER = "ISIC_2019_Training_Input"
#: What the paper's official code calls it; images may lie in a sub-folder for each class.
PREPARED = "ISIC2019_train"
LABELS = "ISIC_2019_Training_GroundTruth.csv"
#: The columns of classes in their order; others that users merge in are left alone.
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
METADATA = "ISIC_2019_Training_Metadata.csv"


@dataclass(frozen=True, kw_only=True)
class Isic2019:
    """The official layout under `root`: the folder of images (or ISIC2019_train, as the paper's official code prepares it),
    GroundTruth.csv (one-hot) and Metadata.csv.

    attribute: sex, age (under `age_edge` years / `age_edge` and over), or sex-age, their intersection. Images with an
    unknown value are dropped and counted. Split 60/20/20 by lesion_id (an image without one counts as its own lesion),
    stratified, with split_seed (null: the run's seed). Classes without images (UNK) are left out.
    """

    private: ClassVar[tuple[str, ...]] = ("root",)
    root: str = "data/isic2019"
    attribute: Attribute = "sex"
    age_edge: int = 60
    split_seed: SplitSeed | None = 42
    max_bad_images: int = 20

    def check(self) -> list[str]:
        """What is missing on this machine."""
        root = Path(self.root)
        folder = FOLDER if filled(root / FOLDER) or not (root / PREPARED).is_dir() else PREPARED
        missing = [name for name in (folder, LABELS, METADATA) if not (root / name).exists()]
        if not missing:
            return []
        return [
            f"dataset.root: {self.root!r} lacks {', '.join(missing)}. Fetch them with 'fairquant data prepare "
            "isic2019' (the training input, ground truth and metadata of the ISIC 2019 challenge), or set "
            "dataset.root=FOLDER. To try everything without them, add --demo"
        ]

    def sources(self) -> tuple[Source, ...]:
        """The challenge's own files (about 9 GB)."""
        return (
            Source(f"{SITE}/{LABELS}", LABELS),
            Source(f"{SITE}/{METADATA}", METADATA),
            Source(f"{SITE}/{FOLDER}.zip", f"{FOLDER}.zip", unpack=True),
        )

    def load(self, context: DataContext) -> Splits:
        """Read the tables, decode the images and split them. Raises UserError."""
        root = Path(self.root)
        table = read_table(root / LABELS, ["image"], all_columns=True)
        classes = [name for name in CLASSES if name in table.columns]
        if not classes:
            raise UserError(
                f"{root / LABELS}: none of the columns {', '.join(CLASSES)}. Columns: {', '.join(table.columns)}"
            )
        places = [table.at(row) for row in range(len(table.rows))]
        labels, label_notes, problems = one_hot({name: [row[name] for row in table.rows] for name in classes}, places)
        if problems:
            raise UserError(problems)
        metadata = self._metadata(root / METADATA, label_notes)
        attributes = {"sex": ("sex",), "age": ("age",), "sex-age": ("sex", "age")}[self.attribute]
        files = _files(root, [row["image"] for row in table.rows])
        samples = []
        for row, label, place in zip(table.rows, labels, places, strict=True):
            facts = metadata.get(row["image"], {})
            if label:
                samples.append(
                    Sample(
                        file=files[row["image"]], id=row["image"], label=label, key=facts.get("lesion_id", ""),
                        attributes=tuple(self._value(name, facts) for name in attributes), place=place,
                    )
                )  # fmt: skip
        if not samples:
            raise UserError(f"{root / LABELS}: no row has exactly one class marked")
        age_groups = [f"under {self.age_edge}", f"{self.age_edge} and over"]
        read = Table(
            samples=samples,
            attributes=attributes,
            class_order=classes,
            group_order=age_groups if self.attribute == "age" else None,
            notes=label_notes,
            counts={"rows": len(labels), "dropped_unlabelled": len(labels) - len(samples)},
            key_name="lesion_id",
        )
        return build_splits(read, context, self.split_seed, self.max_bad_images)

    def _metadata(self, file: Path, notes: list[str]) -> dict[str, Row]:
        """Image -> what is known of it. Raises UserError where an image is listed twice with other values."""
        table = read_table(file, ["image", "age_approx", "sex"], all_columns=True)
        if "lesion_id" not in table.columns:
            notes.append(f"{file.name} has no lesion_id: images of one lesion may stand in train and in test")
        metadata: dict[str, Row] = {}
        problems = [
            f"{table.at(number)}: {row['image']} is listed before with other values"
            for number, row in enumerate(table.rows)
            if metadata.setdefault(row["image"], row) != row
        ]
        if problems:
            raise UserError(problems[:10])
        return metadata

    def _value(self, attribute: str, facts: Row) -> str:
        """The value of an attribute in an image's metadata; "" where it is unknown."""
        if attribute == "sex":
            sex = facts.get("sex", "").lower()
            return sex if sex in ("female", "male") else ""
        age = as_number(facts.get("age_approx", ""))
        if age is None or age < 0:
            return ""
        return f"under {self.age_edge}" if age < self.age_edge else f"{self.age_edge} and over"


def _files(root: Path, images: Sequence[str]) -> dict[str, Path]:
    """Image -> its file; the official archive names downsampled images ..._downsampled.jpg."""
    folder = root / FOLDER if filled(root / FOLDER) else root / PREPARED
    listed: dict[str, Path] = {}  # one listing, not 25,331 look-ups
    twice = []
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in ENDINGS and listed.setdefault(file.stem, file) != file:
            twice.append(f"{file}: {listed[file.stem]} is another image of this name")
    if twice:
        raise UserError(twice[:10])
    return {
        image: listed.get(image) or listed.get(f"{image}_downsampled") or folder / f"{image}.jpg" for image in images
    }
