"""Fitzpatrick17k: editions, label levels, split files."""

from __future__ import annotations

import os

import pytest
from fairquant_datasets.fitzpatrick17k import Fitzpatrick17k
from helpers.data_sets import context, fitzpatrick, table

from fairquant.errors import UserError


@pytest.mark.parametrize("scale", ["fitzpatrick_scale", "fitzpatrick"])
@pytest.mark.parametrize(("labels", "classes"), [(114, 6), (9, 3), (3, 2)])
def test_fitzpatrick_editions_and_label_levels(tmp_path, scale, labels, classes):
    splits = Fitzpatrick17k(root=str(fitzpatrick(tmp_path / "f", scale)), labels=labels).load(context(tmp_path))
    assert len(splits.class_names) == classes
    assert splits.group_names == ("types 1-3", "types 4-6")
    assert splits.counts == {"rows": 90, "dropped_wrongly_labelled": 1, "dropped_unknown": 12, "without_image": 8}
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


def test_real_fitzpatrick(fitzpatrick_root, tmp_path):
    splits = Fitzpatrick17k(root=str(fitzpatrick_root)).load(context(tmp_path, 32))
    assert len(splits.class_names) == 21
    assert splits.counts["without_image"] > 10_000
    assert sum(map(len, (splits.train, splits.validation, splits.test))) <= 2729


def test_the_folder_that_the_official_code_prepares_is_read(tmp_path):
    """dataset_images in place of images, two tables in place of one."""
    root = fitzpatrick(tmp_path / "d", "fitzpatrick")
    (root / "images").rename(root / "dataset_images")
    whole = Fitzpatrick17k(root=str(root)).load(context(tmp_path))
    lines = (root / "fitzpatrick17k.csv").read_text().splitlines()
    (root / "fitzpatrick17k.csv").unlink()
    (root / "train_score.csv").write_text("\n".join([lines[0], *lines[1:70]]) + "\n")
    (root / "all_val.csv").write_text("\n".join([lines[0], *lines[70:]]) + "\n")
    dataset = Fitzpatrick17k(root=str(root))
    assert dataset.check() == []
    assert dataset.load(context(tmp_path)).fingerprint == whole.fingerprint
    splits = Fitzpatrick17k(root=str(root), split="files").load(context(tmp_path))
    assert set(splits.test.ids) <= {line.split(",")[0] for line in lines[70:]}


def test_types_that_are_none_and_blank_labels_are_dropped_and_counted(tmp_path):
    root = fitzpatrick(tmp_path / "d")
    lines = (root / "fitzpatrick17k.csv").read_text().splitlines()
    for number, (scale, label) in {2: ("inf", None), 3: ("3.7", None), 4: (None, ""), 5: (None, "nan")}.items():
        fields = lines[number].split(",")
        fields[1], fields[2] = scale or fields[1], fields[2] if label is None else label
        lines[number] = ",".join(fields)
    (root / "fitzpatrick17k.csv").write_text("\n".join(lines) + "\n")
    (root / "images").rename(root / "dataset_images")
    (root / "images").mkdir()  # left behind, empty
    splits = Fitzpatrick17k(root=str(root)).load(context(tmp_path))
    assert splits.counts["dropped_unlabelled"] == 2
    assert splits.counts["dropped_unknown"] == 12 + 2
    assert not {"", "nan"} & set(splits.class_names)


def test_the_folder_of_images_is_not_listed_anew_for_every_row(tmp_path, monkeypatch):
    listed = []
    whole = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *place: listed.append(place) or whole(*place))
    Fitzpatrick17k(root=str(fitzpatrick(tmp_path / "f"))).load(context(tmp_path))
    assert 1 <= len([place for place in listed if str(place[0]).endswith("images")]) <= 4  # 90 rows
