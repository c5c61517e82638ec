"""What the data sets made of a table share: reading it, dropping rows with counts, intersecting attributes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fairquant_datasets.image_table import ImageTable
from fairquant_datasets.table_files import read_csv
from fairquant_datasets.tables import Sample, Table, build_splits
from helpers.data_sets import context, own, picture

from fairquant.errors import UserError


def test_values_are_stripped_and_a_mark_of_the_byte_order_is_none_of_the_first_column():
    Path("t.csv").write_bytes("\ufeffimage,sex\na.png , f \nb.png,\n".encode())
    assert read_csv(Path("t.csv"), ["image"]) == [{"image": "a.png", "sex": "f"}, {"image": "b.png", "sex": ""}]


def test_every_missing_column_is_reported_with_the_columns_there_are():
    Path("t.csv").write_text("image,gender\na,f\n")
    with pytest.raises(UserError) as caught:
        read_csv(Path("t.csv"), ["image", "sex", "genders"])
    assert caught.value.problems == (
        "t.csv: no column 'sex'. Columns: image, gender", "t.csv: no column 'genders'. Did you mean 'gender'? Columns: image, gender",
    )  # fmt: skip
    with pytest.raises(UserError, match="none.csv: cannot be read"):
        read_csv(Path("none.csv"), [])


def samples(folder: Path, count: int = 24) -> list[Sample]:
    """Two classes, two attributes; the last has no file, the first an unknown attribute."""
    for number in range(count - 1):
        picture(folder / f"{number}.png", number)
    return [
        Sample(
            file=folder / f"{number}.png", id=f"image {number}", label="xy"[number % 2],
            attributes=("" if number == 0 else "fm"[number // 2 % 2], "AB"[number // 4 % 2]), key=f"patient {number // 2}",
        )
        for number in range(count)
    ]  # fmt: skip


def test_what_is_dropped_is_counted_and_groups_are_intersections(tmp_path):
    table = Table(samples=samples(tmp_path / "images"), attributes=("sex", "site"), class_order=("y", "x", "z"))
    splits = build_splits(table, context(tmp_path), 42, 0)
    assert splits.counts == {"rows": 24, "dropped_unknown": 1, "without_image": 1}
    assert splits.group_names == ("f x A", "f x B", "m x A", "m x B")
    assert splits.class_names == ("y", "x")
    assert any("class(es) without images left out: z" in note for note in splits.notes)
    assert any("image 23" in note for note in splits.notes)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 22


def test_a_table_without_images_or_with_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="the table has no usable rows"):
        build_splits(Table(samples=(), attributes=("sex",)), context(tmp_path), 42, 0)
    absent = [Sample(file=tmp_path / "a.png", id="a", label="x", attributes=("f",))]
    with pytest.raises(UserError, match="none of the 1 rows has an image file. Looked for .*a.png"):
        build_splits(Table(samples=absent, attributes=("sex",)), context(tmp_path), 42, 0)
    one_class = [each for each in samples(tmp_path / "images") if each.label == "x"]
    with pytest.raises(UserError, match="all 11 images are labelled x; a classifier needs two classes"):
        build_splits(Table(samples=one_class, attributes=("sex", "site")), context(tmp_path), 42, 0)


def test_a_value_may_not_hold_what_joins_the_values_of_several_attributes(tmp_path):
    mixed = [replace(each, attributes=("f", "2 x 3")) for each in samples(tmp_path / "images")]
    with pytest.raises(UserError, match="dataset: site '2 x 3' contains ' x ', which joins"):
        build_splits(Table(samples=mixed, attributes=("sex", "site")), context(tmp_path), 42, 0)
    alone = [replace(each, attributes=each.attributes[1:]) for each in mixed]
    assert build_splits(Table(samples=alone, attributes=("site",)), context(tmp_path), 42, 0).group_names == ("2 x 3",)


def test_a_split_is_the_same_in_any_case(tmp_path):
    file = own(tmp_path)
    rows = file.read_text().splitlines()
    lines = [rows[0]] + [
        ",".join([*row.split(",")[:-1], ["train", "Train", "VAL", "test"][number // 3 % 4]])
        for number, row in enumerate(rows[1:])
    ]
    file.write_text("\n".join(lines) + "\n")
    splits = ImageTable(
        table=str(file), label="diagnosis", image="file", attributes=("site",), split="part", patient="patient"
    )
    assert len(splits.load(context(tmp_path)).train) == 30


def test_a_file_that_is_reached_by_two_paths_is_one_image_and_copies_in_two_groups_are_said(tmp_path):
    file = own(tmp_path)
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "pictures" / "0.png")
    (tmp_path / "pictures" / "copy.png").write_bytes((tmp_path / "pictures" / "1.png").read_bytes())
    with file.open("a") as table_of_rows:
        table_of_rows.write("pictures/link.png,ill,f,A,p0,train\npictures/copy.png,well,m,B,p99,train\n")
    splits = ImageTable(table=str(file), label="diagnosis", image="file", attributes=("site",)).load(context(tmp_path))
    assert splits.counts["dropped_listed_twice"] == 1
    assert splits.counts["copies"] == 1
    assert any("1 of these pictures stand under different groups" in note for note in splits.notes)
