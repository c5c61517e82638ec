"""A table and a folder of one's own."""

from __future__ import annotations

import csv

import pytest
from fairquant_datasets.image_table import ImageTable
from helpers.data_sets import context, own, table

from fairquant.errors import UserError


def test_a_table_of_ones_own(tmp_path):
    dataset = ImageTable(
        table=str(own(tmp_path / "d")), image="file", label="diagnosis", attributes=("sex", "site"), patient="patient"
    )
    splits = dataset.load(context(tmp_path))
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
    dataset = ImageTable(table=str(file), image="file", label="diagnosis", attributes=("site",), split="part")
    splits = dataset.load(context(tmp_path))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 15, 15)
    file.write_text(file.read_text().replace(",test", ",exam"))
    with pytest.raises(UserError, match=r"unknown value\(s\) \['exam'\]"):
        dataset.load(context(tmp_path))


def test_a_missing_column_is_suggested(tmp_path):
    with pytest.raises(UserError, match=r"no column 'diagnoses'. Did you mean 'diagnosis'\?"):
        ImageTable(table=str(own(tmp_path / "d")), image="file", label="diagnoses", attributes=("sex",)).load(
            context(tmp_path)
        )


def test_a_group_with_one_image_and_a_class_seen_only_in_test_are_noted(tmp_path):
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
