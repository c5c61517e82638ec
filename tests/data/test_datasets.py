"""Data sets: official layouts, unknown values, leaks, broken images, small groups."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fairquant_datasets.fitzpatrick17k import Fitzpatrick17k
from fairquant_datasets.image_table import ImageTable
from fairquant_datasets.isic2019 import Isic2019
from fairquant_datasets.synthetic_lesions import SyntheticLesions
from PIL import Image

from fairquant.errors import UserError
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


@pytest.mark.parametrize(("attribute", "groups"), [
    ("sex", {"female", "male"}), ("age", {"under 60", "60 and over"}),
    ("sex-age", {"female x under 60", "male x under 60", "female x 60 and over", "male x 60 and over"}),
])  # fmt: skip
def test_isic_groups_unknowns_and_lesions(tmp_path, attribute, groups):
    splits = Isic2019(root=str(isic(tmp_path / "isic")), attribute=attribute).load(context(tmp_path))
    assert set(splits.group_names) == groups
    assert splits.class_names == ("MEL", "NV", "BCC")
    assert any("UNK" in note for note in splits.notes)
    unknown = {"sex": 4, "age": 4, "sex-age": 8}[attribute]
    assert splits.counts["dropped_unknown"] == unknown
    parts = [splits.train, splits.validation, splits.test]
    assert sum(len(split) for split in parts) == 80 - unknown
    lesions = [{int(name[5:]) // 2 for name in split.ids if int(name[5:]) % 13 != 5} for split in parts]
    assert not lesions[0] & lesions[1] | lesions[0] & lesions[2] | lesions[1] & lesions[2]
    assert splits.train.images[0].shape == (3, 16, 16)


def test_the_split_does_not_change_with_the_runs_seed_unless_asked(tmp_path):
    root = str(isic(tmp_path / "isic"))
    ids = lambda seed, split_seed: (
        Isic2019(root=root, split_seed=split_seed).load(context(tmp_path, seed=seed)).test.ids
    )
    assert ids(1, 42) == ids(2, 42)
    assert ids(1, None) != ids(2, None)


def test_images_are_decoded_once_and_a_changed_image_again(tmp_path, monkeypatch):
    root = isic(tmp_path / "isic")
    first = Isic2019(root=str(root)).load(context(tmp_path))
    import fairquant.data.images as images

    calls = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda file, size: calls.append(file) or real(file, size))
    again = Isic2019(root=str(root)).load(context(tmp_path))
    assert not calls
    assert again.fingerprint == first.fingerprint
    picture(root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg", 999)
    changed = Isic2019(root=str(root)).load(context(tmp_path))
    assert calls
    assert changed.fingerprint != first.fingerprint


def test_broken_images_are_counted_named_and_limited(tmp_path):
    root = isic(tmp_path / "isic")
    for number in (1, 2):
        (root / "ISIC_2019_Training_Input" / f"ISIC_{number:07d}.jpg").write_bytes(b"no image")
    splits = Isic2019(root=str(root)).load(context(tmp_path))
    assert splits.counts["undecodable"] == 2
    assert any("ISIC_0000001.jpg" in note and "do not decode" in note for note in splits.notes)
    assert "ISIC_0000001" not in splits.train.ids + splits.validation.ids + splits.test.ids
    with pytest.raises(UserError, match=r"2 image\(s\) do not decode, at most 1 are allowed") as caught:
        Isic2019(root=str(root), max_bad_images=1).load(context(tmp_path))
    assert "ISIC_0000002.jpg" in str(caught.value)


def test_missing_files_and_columns_are_told(tmp_path):
    assert "lacks ISIC_2019_Training_Input" in Isic2019(root=str(tmp_path / "none")).check()[0]
    assert "--demo" in Isic2019(root=str(tmp_path / "none")).check()[0]
    root = isic(tmp_path / "isic")
    assert Isic2019(root=str(root)).check() == []
    table(root / "ISIC_2019_Training_Metadata.csv", [{"image": "ISIC_0000001", "age": 3, "gender": "male"}])
    with pytest.raises(UserError) as caught:
        Isic2019(root=str(root)).load(context(tmp_path))
    assert len(caught.value.problems) == 2
    assert "no column 'age_approx'" in caught.value.problems[0]
    assert "no column 'sex'" in caught.value.problems[1]


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


@pytest.mark.parametrize("scale", ["fitzpatrick_scale", "fitzpatrick"])
@pytest.mark.parametrize(("labels", "classes"), [(114, 6), (9, 3), (3, 2)])
def test_fitzpatrick_editions_and_label_levels(tmp_path, scale, labels, classes):
    splits = Fitzpatrick17k(root=str(fitzpatrick(tmp_path / "f", scale)), labels=labels).load(context(tmp_path))
    assert len(splits.class_names) == classes
    assert splits.group_names == ("types 1-3", "types 4-6")
    assert splits.counts == {"dropped_wrongly_labelled": 1, "dropped_unknown": 12, "without_image": 8}
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 90 - 1 - 12 - 8


def test_fitzpatrick_six_groups(tmp_path):
    splits = Fitzpatrick17k(root=str(fitzpatrick(tmp_path / "f")), groups="six").load(context(tmp_path))
    assert splits.group_names == tuple(f"type {n}" for n in range(1, 7))


def test_the_older_editions_split_files_keep_test_images_out_of_training(tmp_path):
    root = fitzpatrick(tmp_path / "f", "fitzpatrick")
    names = [f"{number:032x}" for number in range(90)]
    table(root / "train_score.csv", [{"md5hash": name} for name in names[:70]])
    table(root / "all_val.csv", [{"md5hash": name} for name in names[70:]])
    splits = Fitzpatrick17k(root=str(root), split="files").load(context(tmp_path))
    assert set(splits.test.ids) <= set(names[70:])
    assert set(splits.train.ids) | set(splits.validation.ids) <= set(names[:70])
    assert len(splits.validation) > 5
    table(root / "all_val.csv", [{"md5hash": name} for name in names[60:]])
    with pytest.raises(UserError, match="10 image.s. are in both"):
        Fitzpatrick17k(root=str(root), split="files").load(context(tmp_path))


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


def test_a_table_of_ones_own(tmp_path):
    made = ImageTable(
        table=str(own(tmp_path / "d")), image="file", label="diagnosis", attributes=("sex", "site"), patient="patient"
    )
    splits = made.load(context(tmp_path))
    assert splits.class_names == ("ill", "well")
    assert splits.group_names == ("f x A", "f x B", "m x A", "m x B")
    assert splits.counts["dropped_unknown"] == 20
    patients = [
        {int(name.split("/")[1][:-4]) // 3 for name in split.ids}
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]


def test_a_split_column_is_followed_and_checked(tmp_path):
    file = own(tmp_path / "d")
    made = ImageTable(table=str(file), image="file", label="diagnosis", attributes=("site",), split="part")
    splits = made.load(context(tmp_path))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 15, 15)
    file.write_text(file.read_text().replace(",test", ",exam"))
    with pytest.raises(UserError, match=r"unknown value\(s\) \['exam'\]"):
        made.load(context(tmp_path))


def test_a_missing_column_is_suggested(tmp_path):
    with pytest.raises(UserError, match=r"no column 'diagnoses'. Did you mean 'diagnosis'\?"):
        ImageTable(table=str(own(tmp_path / "d")), image="file", label="diagnoses", attributes=("sex",)).load(
            context(tmp_path)
        )


def test_a_group_with_one_image_and_a_class_seen_only_in_test_are_said(tmp_path):
    file = own(tmp_path / "d")
    rows = list(csv.DictReader(file.open()))
    rows[3]["site"] = "C"
    for row in rows:
        if row["part"] == "test":
            row["diagnosis"] = "rare"
    table(file, rows)
    splits = ImageTable(table=str(file), image="file", label="diagnosis", attributes=("site",), split="part").load(
        context(tmp_path)
    )
    assert "C" in splits.group_names
    assert any("class 'rare' is in test but not in train" in note for note in splits.notes)
    assert any("group 'C'" in note for note in splits.notes)


def test_synthetic_lesions_are_the_same_every_time_and_darker_skin_is_harder():
    made = SyntheticLesions(images=300, groups="six")
    one, two = (made.load(DataContext(seed, 32, Path("cache"))) for seed in (0, 5))
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.train.images[7].numpy(), two.train.images[7].numpy())
    assert len(one.class_names) == 6
    fractions = np.bincount(one.train.groups, minlength=6)
    assert fractions[0] > 2 * fractions[5]
    # the lesion at the centre stands out less on dark skin
    contrast = []
    for tones in ((0, 1), (4, 5)):
        rows = np.flatnonzero(np.isin(one.train.groups, tones))
        images = np.stack([one.train.images[int(row)].numpy() for row in rows]).astype(float)
        contrast.append(np.abs(images[:, :, 12:20, 12:20].mean((2, 3)) - images[:, :, :4, :4].mean((2, 3))).mean())
    assert contrast[1] < 0.6 * contrast[0]


def test_real_isic(isic_root, tmp_path):
    splits = Isic2019(root=str(isic_root), attribute="age").load(context(tmp_path, 32))
    counts = sum(map(len, (splits.train, splits.validation, splits.test)))
    assert counts + splits.counts["dropped_unknown"] == 4011
    assert "UNK" not in splits.class_names
    assert splits.group_names == ("under 60", "60 and over")
    assert 0.58 < len(splits.train) / counts < 0.62


def test_real_fitzpatrick(fitzpatrick_root, tmp_path):
    splits = Fitzpatrick17k(root=str(fitzpatrick_root)).load(context(tmp_path, 32))
    assert len(splits.class_names) == 21
    assert splits.counts["without_image"] > 10_000
    assert sum(map(len, (splits.train, splits.validation, splits.test))) <= 2729


def test_the_cache_lists_what_it_could_not_decode(tmp_path):
    root = isic(tmp_path / "isic")
    (root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg").write_bytes(b"x")
    Isic2019(root=str(root)).load(context(tmp_path))
    listed = [json.loads(file.read_text()) for file in (tmp_path / "cache").glob("images-*.json")]
    assert len(listed) == 1
    assert len(listed[0]) == 1
