"""A table and a folder of one's own."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from fairquant_datasets.image_table import ImageTable, SplitLists
from fairquant_datasets.values import AttributeValues
from helpers.data_sets import context, own, table
from PIL import Image

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


def sides(splits) -> list[set[str]]:
    return [set(split.ids) for split in (splits.train, splits.validation, splits.test)]


def rows_of(file):
    return list(csv.DictReader(file.open()))


def mine(file, **options) -> ImageTable:
    return ImageTable(table=str(file), image="file", label="diagnosis", **{"attributes": ("site",), **options})


def test_equal_pictures_are_on_one_side_and_files_listed_twice_count_once(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for row in rows[:40]:
        copy = f"copy_{row['file'].split('/')[1]}"
        shutil.copy(file.parent / row["file"], file.parent / copy)
        rows.append({**row, "file": copy})
    table(file, [*rows, rows[0]])
    splits = mine(file).load(context(tmp_path))
    assert splits.counts["copies"] == 40
    assert splits.counts["dropped_listed_twice"] == 1
    for names in sides(splits):
        for number in range(40):
            assert (f"pictures/{number}.png" in names) == (f"copy_{number}.png" in names)
    assert any(
        "40 image(s) are copies of others, byte by byte: pictures/0.png = copy_0.png" in note for note in splits.notes
    )
    assert any("no column names the patient" in note for note in splits.notes)


def test_a_copy_in_train_of_a_test_picture_is_dropped_where_the_splits_are_given(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    tested = next(row for row in rows if row["part"] == "test")
    shutil.copy(file.parent / tested["file"], file.parent / "copy.png")
    table(file, [*rows, {**tested, "file": "copy.png", "part": "train"}])
    splits = mine(file, split="part").load(context(tmp_path))
    assert splits.given
    assert splits.counts["dropped_on_two_sides"] == 1
    assert "copy.png" not in set.union(*sides(splits))
    assert tested["file"] in sides(splits)[2]


def test_two_rows_of_a_file_that_contradict_each_other_are_an_error(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    table(file, [*rows, {**rows[4], "diagnosis": "well" if rows[4]["diagnosis"] == "ill" else "ill"}])
    with pytest.raises(
        UserError, match=r"mine.csv:62: pictures/4.png is listed in .*mine.csv:6 with label '\w+', here '\w+'$"
    ):
        mine(file).load(context(tmp_path))


def test_bins_keep_their_order_in_intersections_and_empty_ones_are_said(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for number, row in enumerate(rows):
        row["age"] = str((8, 80)[number // 3 % 2])
        row["one"] = "here"
    table(file, rows)
    splits = mine(
        file, attributes={"age": AttributeValues(bins=(9, 90)), "site": AttributeValues(map={"A": "a", "B": "b"})}
    ).load(context(tmp_path))
    assert splits.group_names == ("under 9 x a", "under 9 x b", "9 to under 90 x a", "9 to under 90 x b")
    assert "attribute 'age': no row is in bin(s) 90 and over" in splits.notes
    alone = mine(file, attributes=("one",)).load(context(tmp_path))
    assert "all 60 images are in one group (here): no groups can be compared" in alone.notes


def test_a_patient_on_two_sides_of_given_splits_is_an_error(tmp_path):
    with pytest.raises(UserError) as caught:
        mine(own(tmp_path / "d"), split="part", patient="patient").load(context(tmp_path))
    assert "patient 'p0' is in train (" in caught.value.problems[0]
    assert "and in val (" in str(caught.value)
    assert caught.value.problems[-1] == "Each patient must be in one split: change the split column, or leave it out"


def test_images_without_a_patient_are_each_for_themselves(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for row in rows[12:]:
        row["patient"] = ("", "unknown", "NA")[int(row["patient"][1:]) % 3]
    table(file, rows)
    splits = mine(file, patient="patient").load(context(tmp_path))
    assert all(abs(len(names) - size) <= 2 for names, size in zip(sides(splits), (36, 12, 12), strict=True))
    assert any("48 image(s) have no patient: each counts as one of its own" in note for note in splits.notes)


def test_lists_say_what_was_trained_and_tested_on(tmp_path):
    file = own(tmp_path / "d")
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "validation", "test")}
    for name, numbers in zip(lists, (range(30), range(30, 40), range(40, 50)), strict=True):
        lists[name].write_text("".join(f"pictures/{number}{'.png' if number % 2 else ''}\n" for number in numbers))
    given = SplitLists(**{name: str(path) for name, path in lists.items()})
    splits = mine(file, split=given).load(context(tmp_path))
    assert splits.given
    assert [len(names) for names in sides(splits)] == [30, 10, 10]
    assert splits.counts["dropped_in_no_list"] == 10
    lists["test"].write_text("pictures/3.png\n")
    with pytest.raises(UserError, match=r"test.txt:1: pictures/3.png is in the list of train as well"):
        mine(file, split=given).load(context(tmp_path))
    lists["test"].unlink()
    assert mine(file, split=given).check() == [f"dataset.split.test: no file {str(lists['test'])!r}"]


def test_all_that_is_wrong_in_a_table_is_said_at_once_and_before_a_run(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for row in rows:
        row["sex"], row["site"] = "Unknown", str(int(row["file"].split("/")[1][:-4]) + 20)
    table(file, rows)
    problems = mine(file, attributes=("sex", "site")).check()
    assert [problem.partition(": ")[2][:20] for problem in problems] == ["attribute 'sex': all", "attribute 'site': 60"]


def test_sixteen_bit_images_are_counted_and_dark_ones_pointed_out(tmp_path):
    file = own(tmp_path / "d")
    for number in range(60):
        values = np.random.default_rng(number).integers(0, 4096, (20, 20)).astype(np.uint16)
        Image.fromarray(values).save(file.parent / "pictures" / f"{number}.png")
    splits = mine(file).load(context(tmp_path))
    assert any("60 16-bit image(s), such as 0.png: read with intensity full" in note for note in splits.notes)
    assert any(
        "is 4095 of 65535: they are read as nearly black. Set dataset.intensity to percentile, or to [0, 4095]" in note
        for note in splits.notes
    )
    windowed = mine(file, intensity=(0.0, 4095.0)).load(context(tmp_path))
    assert float(windowed.train.images[0].float().mean()) > 100
    assert windowed.intensity == (0.0, 4095.0)


def test_lists_match_the_name_as_it_is_written_first(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for number, row in enumerate(rows[:20]):
        other = f"pictures/{number}.jpg"
        Image.fromarray(np.random.default_rng(900 + number).integers(0, 255, (20, 20, 3), np.uint8)).save(
            file.parent / other
        )
        rows.append({**row, "file": other})
    table(file, rows)
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "validation", "test")}
    for name, numbers in zip(lists, (range(30), range(30, 40), range(40, 50)), strict=True):
        lists[name].write_text("".join(f"pictures/{number}.png\n" for number in numbers), encoding="utf-16")
    splits = mine(file, split=SplitLists(**{name: str(path) for name, path in lists.items()})).load(context(tmp_path))
    assert all(name.endswith(".png") for name in sides(splits)[0])
    assert splits.counts["dropped_in_no_list"] == 30


@pytest.mark.parametrize(
    ("column", "value", "options", "message"),
    [
        ("part", "", {"split": "part"}, "the split column 'part' is blank in every row"),
        ("patient", "p1", {"patient": "patient"}, "1 different patients, lesions or pictures are too few to split"),
        ("file", "", {}, r"mine.csv:2: no image is named \(60 row\(s\)\)"),
        ("file", "x" * 400, {}, "none of the 60 rows has an image file"),
    ],
)
def test_columns_that_say_nothing_are_errors(tmp_path, column, value, options, message):
    file = own(tmp_path / "d")
    table(file, [{**row, column: value} for row in rows_of(file)])
    with pytest.raises(UserError, match=message):
        mine(file, **options).load(context(tmp_path))


def test_patients_are_one_in_any_form_and_a_negative_seed_is_refused(tmp_path):
    file = own(tmp_path / "d")
    forms = ("{}", "{}.0", "0{}")
    table(
        file,
        [{**row, "patient": forms[number % 3].format(number // 3 + 1)} for number, row in enumerate(rows_of(file))],
    )
    for names in sides(mine(file, patient="patient").load(context(tmp_path))):
        assert all(
            len({f"pictures/{3 * (int(n.split('/')[1][:-4]) // 3) + k}.png" for k in range(3)} & names) == 3
            for n in names
        )
    with pytest.raises(UserError, match="split_seed: must be at least 0"):
        mine(file, split_seed=-1).load(context(tmp_path))


def test_a_patient_with_many_images_and_a_class_without_any_are_said(tmp_path):
    file = own(tmp_path / "d")
    rows = rows_of(file)
    for number, row in enumerate(rows):
        row["patient"], row["sex"] = "0" if number < 40 else f"p{number}", "fm"[number % 2]
    rows[-1]["diagnosis"], rows[-1]["sex"] = "Rare", ""
    table(file, rows)
    notes = mine(file, patient="patient", attributes=("sex",)).load(context(tmp_path)).notes
    assert any(
        "40 of 59 images are of patient '0', and stand in one split: if that means unknown" in note for note in notes
    )
    assert any(note == "class(es) of which no image can be used: Rare" for note in notes)


def test_why_images_do_not_decode_is_said(tmp_path):
    file = own(tmp_path / "d")
    (file.parent / "pictures" / "3.png").write_bytes(b"no picture")
    notes = mine(file).load(context(tmp_path)).notes
    assert any(
        "1 image(s) do not decode and are skipped: 3.png. is no image of a known format" in note for note in notes
    )
