"""ISIC 2019: dermoscopic images of skin lesions, with sex and age (ISIC 2019 challenge; HAM10000, BCN20000, MSK)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Source, Splits
from fairquant_datasets.tables import Row, Sample, Table, build_splits, read_csv

Attribute = Literal["sex", "age", "sex-age"]

SITE = "https://isic-challenge-data.s3.amazonaws.com/2019"
FOLDER = "ISIC_2019_Training_Input"
LABELS = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"


@dataclass(frozen=True, kw_only=True)
class Isic2019:
    """The official layout under `root`: the folder of images, GroundTruth.csv (one-hot) and Metadata.csv.

    attribute: sex, age (under `age_edge` years / `age_edge` and over), or sex-age, their intersection. Images with an
    unknown value are dropped and counted. Split 60/20/20 by lesion_id (an image without one counts as its own lesion),
    stratified, with split_seed (null: the run's seed). Classes without images (UNK) are left out.
    """

    root: str = "data/isic2019"
    attribute: Attribute = "sex"
    age_edge: int = 60
    split_seed: int | None = 42
    max_bad_images: int = 20

    def check(self) -> list[str]:
        """What is missing on this machine."""
        root = Path(self.root)
        missing = [name for name in (FOLDER, LABELS, METADATA) if not (root / name).exists()]
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
        truth = read_csv(root / LABELS, ["image"])
        metadata = {row["image"]: row for row in read_csv(root / METADATA, ["image", "age_approx", "sex"])}
        classes = [column for column in (truth[0] if truth else {}) if column != "image"]
        attributes = {"sex": ("sex",), "age": ("age",), "sex-age": ("sex", "age")}[self.attribute]
        samples, without_label = [], 0
        for row in truth:
            marked = [name for name in classes if row[name] and float(row[name]) > 0.5]
            if len(marked) != 1:
                without_label += 1
                continue
            facts = metadata.get(row["image"], {})
            samples.append(
                Sample(
                    file=_file(root, row["image"]),
                    id=row["image"],
                    label=marked[0],
                    attributes=tuple(self._value(name, facts) for name in attributes),
                    key=facts.get("lesion_id", "") or f"image {row['image']}",
                )
            )
        if not samples:
            raise UserError(f"{root / LABELS}: no row has exactly one class marked")
        age_groups = [f"under {self.age_edge}", f"{self.age_edge} and over"]
        table = Table(
            samples=samples,
            attributes=attributes,
            class_order=classes,
            group_order=age_groups if self.attribute == "age" else None,
            notes=[f"{without_label} row(s) without exactly one class dropped"] if without_label else [],
        )
        return build_splits(table, context, self.split_seed, self.max_bad_images)

    def _value(self, attribute: str, facts: Row) -> str:
        """The value of an attribute in an image's metadata; "" where it is unknown."""
        if attribute == "sex":
            sex = facts.get("sex", "").lower()
            return sex if sex in ("female", "male") else ""
        try:
            age = float(facts.get("age_approx", ""))
        except ValueError:
            return ""
        return f"under {self.age_edge}" if age < self.age_edge else f"{self.age_edge} and over"


def _file(root: Path, image: str) -> Path:
    """The image's file; the official archive names downsampled images ..._downsampled.jpg."""
    plain = root / FOLDER / f"{image}.jpg"
    downsampled = root / FOLDER / f"{image}_downsampled.jpg"
    return plain if plain.exists() or not downsampled.exists() else downsampled
