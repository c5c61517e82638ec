"""Small data sets in the layouts of the real ones: pictures of noise, and their tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from fairquant.roles import DataContext


def context(tmp_path: Path, size: int = 16, seed: int = 0) -> DataContext:
    return DataContext(seed, size, tmp_path / "cache")


def picture(file: Path, number: int, size: int = 20) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    Image.fromarray(draw.integers(0, 255, (size, size + 4, 3), np.uint8)).save(file, quality=90)


def table(file: Path, rows: list[dict[str, object]]) -> None:
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def isic(root: Path, count: int = 80) -> Path:
    """Every lesion has two images; some ages and sexes are unknown; UNK has none."""
    truth, about = [], []
    for number in range(count):
        name = f"ISIC_{number:07d}"
        downsampled = "_downsampled" if number % 7 == 0 else ""
        picture(root / "ISIC_2019_Training_Input" / f"{name}{downsampled}.jpg", number)
        label = ["MEL", "NV", "BCC"][number // 2 % 3]
        truth.append({"image": name, **{c: float(c == label) for c in ("MEL", "NV", "BCC", "UNK")}})
        about.append({
            "image": name, "age_approx": "" if number % 20 == 3 else 30 + number % 60, "anatom_site_general": "",
            "lesion_id": "" if number % 13 == 5 else f"L{number // 2}", "sex": "" if number % 20 == 5 else ["male", "female"][number // 2 % 2],
        })  # fmt: skip
    table(root / "ISIC_2019_Training_GroundTruth.csv", truth)
    table(root / "ISIC_2019_Training_Metadata.csv", about)
    return root


def fitzpatrick(root: Path, scale: str = "fitzpatrick_scale", count: int = 90) -> Path:
    rows = []
    for number in range(count):
        name = f"{number:032x}"
        if number % 10:
            picture(root / "images" / f"{name}.jpg", number)
        rows.append({
            "md5hash": name, scale: [1, 2, 3, 4, 5, 6, -1][number % 7], "label": f"condition {number % 6}",
            "nine_partition_label": f"nine {number % 3}", "three_partition_label": ["benign", "malignant"][number % 2],
            "qc": "3 Wrongly labelled" if number == 11 else "", "url": "",
        })  # fmt: skip
    (root / "images").mkdir(exist_ok=True, parents=True)
    table(root / "fitzpatrick17k.csv", rows)
    return root


def own(root: Path, count: int = 60, **extra: object) -> Path:
    rows = []
    for number in range(count):
        picture(root / "pictures" / f"{number}.png", number)
        rows.append({
            "file": f"pictures/{number}.png", "diagnosis": ["ill", "well"][number % 2], "sex": ["f", "m", "unknown"][number % 3],
            "site": ["A", "B"][number // 2 % 2], "patient": f"p{number // 3}", "part": ["train", "train", "val", "test"][number % 4],
        })  # fmt: skip
    table(root / "mine.csv", rows)
    return root / "mine.csv"
