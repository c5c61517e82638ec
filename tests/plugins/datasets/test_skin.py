"""Public data sets with one table, in their real layouts with pictures of noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairquant_datasets.skin import Bcn20000, Ddi, Ham10000, Isic2020, PadUfes20
from helpers.data_sets import context, picture, table


def ham(root: Path) -> None:
    rows = []
    for number in range(60):
        name = f"ISIC_{24306 + number:07d}"
        picture(root / f"HAM10000_images_part_{1 + number // 40}" / f"{name}.jpg", number)
        rows.append({
            "lesion_id": f"HAM_{number // 2:07d}", "image_id": name, "dx": ["nv", "mel", "bkl"][number // 2 % 3], "dx_type": "histo",
            "age": "" if number < 2 else f"{30 + number}.0", "sex": "unknown" if number == 5 else ["male", "female"][number // 2 % 2],
            "localization": "back",
        })  # fmt: skip
    table(root / "HAM10000_metadata.csv", rows)


def bcn(root: Path) -> None:
    rows = []
    for number in range(60):
        name = f"BCN_{number:010d}.jpg"
        picture(root / "BCN_20k_train" / "bcn_20k_train" / name, number)
        rows.append({
            "bcn_filename": name, "age_approx": "" if number == 8 else 45.0, "anatom_site_general": "anterior torso",
            "diagnosis": ["NV", "MEL", "BCC"][number // 2 % 3], "lesion_id": f"BCN_{number // 2:07d}",
            "capture_date": "2012-05-06", "sex": "" if number == 5 else ["male", "female"][number // 2 % 2], "split": "train",
        })  # fmt: skip
    table(root / "bcn_20k_train.csv", rows)


def isic(root: Path) -> None:
    rows = []
    for number in range(60):
        name = f"ISIC_{2637011 + number:07d}"
        picture(root / "train" / f"{name}.jpg", number)
        rows.append({
            "image_name": name, "patient_id": "" if number == 7 else f"IP_{number // 3:07d}",
            "sex": "" if number == 4 else ["male", "female"][number // 3 % 2], "age_approx": 45.0 if number % 2 else 70.0,
            "anatom_site_general_challenge": "torso", "diagnosis": "unknown", "benign_malignant": ["benign", "malignant"][number % 2],
            "target": number % 2,
        })  # fmt: skip
    table(root / "ISIC_2020_Training_GroundTruth.csv", rows)


def pad(root: Path) -> None:
    rows = []
    for number in range(60):
        name = f"PAT_{number // 2}_{number}_1.png"
        picture(root / "images" / f"imgs_part_{1 + number // 20}" / name, number)
        rows.append({
            "patient_id": f"PAT_{number // 2}", "lesion_id": number, "smoke": "", "age": 20 + number, "img_id": name,
            "gender": "" if number == 3 else ["MALE", "FEMALE"][number // 2 % 2], "fitspatrick": "" if number < 6 else f"{1 + number % 6}.0",
            "diagnostic": ["BCC", "NEV"][number % 2],
        })  # fmt: skip
    table(root / "metadata.csv", rows)


def ddi(root: Path) -> None:
    rows = []
    for number in range(60):
        picture(root / f"{number + 1:06d}.png", number)
        rows.append({
            "": number, "DDI_ID": number + 1, "DDI_file": f"{number + 1:06d}.png", "skin_tone": [12, 34, 56][number % 3],
            "malignant": number % 2 == 0, "disease": "melanoma",
        })  # fmt: skip
    table(root / "ddi_metadata.csv", rows)


CASES = {
    "ham10000": (Ham10000, ham, {}, ("bkl", "mel", "nv"), ("female", "male"), 1),
    "ham10000-age": (Ham10000, ham, {"attribute": "age"}, ("bkl", "mel", "nv"), ("under 60", "60 and over"), 2),
    "bcn20000": (Bcn20000, bcn, {}, ("BCC", "MEL", "NV"), ("female", "male"), 1),
    "isic2020": (Isic2020, isic, {}, ("benign", "malignant"), ("female", "male"), 1),
    "isic2020-both": (Isic2020, isic, {"attribute": "sex-age"}, ("benign", "malignant"), (
        "female x under 60", "female x 60 and over", "male x under 60", "male x 60 and over"), 1),
    "pad-ufes-20": (PadUfes20, pad, {}, ("BCC", "NEV"), ("female", "male"), 1),
    "pad-ufes-20-skin": (PadUfes20, pad, {"attribute": "skin-type"}, ("BCC", "NEV"), ("I-II", "III-IV", "V-VI"), 6),
    "ddi": (Ddi, ddi, {}, ("benign", "malignant"), ("I-II", "III-IV", "V-VI"), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_real_layout_is_read_and_its_rows_counted_against_the_published_number(tmp_path, name):
    cls, make, options, classes, groups, unknown = CASES[name]
    make(tmp_path / "d")
    dataset = cls(root=str(tmp_path / "d"), **options)
    assert dataset.check() == []
    splits = dataset.load(context(tmp_path))
    assert (splits.class_names, splits.group_names) == (classes, groups)
    assert splits.counts.get("dropped_unknown", 0) == unknown
    assert splits.notes[0].startswith(f"the table has 60 rows, published were {dataset.images}")
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 60 - unknown


@pytest.mark.parametrize("cls", [Ham10000, Bcn20000, Isic2020, PadUfes20, Ddi])
def test_what_is_missing_is_said_with_where_it_comes_from(tmp_path, cls):
    (problem,) = cls(root=str(tmp_path)).check()
    assert "lacks " + " or ".join(cls.tables) in problem
    assert cls.source in problem


def test_of_the_pairs_that_isic_2020_lists_the_first_stays(tmp_path):
    isic(tmp_path / "d")
    pairs = [
        {"image_name_1": "ISIC_2637011", "image_name_2": "ISIC_2637020"},
        {"image_name_1": "x", "image_name_2": "ISIC_2637030"},
    ]
    table(tmp_path / "d" / "ISIC_2020_Training_Duplicates.csv", pairs)
    splits = Isic2020(root=str(tmp_path / "d")).load(context(tmp_path))
    ids = {name for part in (splits.train, splits.validation, splits.test) for name in part.ids}
    assert "ISIC_2637011" in ids
    assert not ids & {"ISIC_2637020", "ISIC_2637030"}
    assert splits.counts["dropped_duplicates"] == 2
