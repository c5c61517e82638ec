"""ISIC 2019's layout: groups, unknowns, lesions."""

from __future__ import annotations

import pytest
from fairquant_datasets.isic2019 import Isic2019
from helpers.data_sets import context, isic, table

from fairquant.errors import UserError


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


def test_missing_files_and_columns_are_reported(tmp_path):
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


def test_real_isic(isic_root, tmp_path):
    splits = Isic2019(root=str(isic_root), attribute="age").load(context(tmp_path, 32))
    counts = sum(map(len, (splits.train, splits.validation, splits.test)))
    assert counts + splits.counts["dropped_unknown"] == 4011
    assert "UNK" not in splits.class_names
    assert splits.group_names == ("under 60", "60 and over")
    assert 0.58 < len(splits.train) / counts < 0.62


def test_the_folder_that_the_official_code_prepares_is_read(tmp_path):
    """ISIC2019_train in place of ISIC_2019_Training_Input, a sub-folder for each class."""
    root = isic(tmp_path / "d")
    whole = Isic2019(root=str(root)).load(context(tmp_path))
    (root / "ISIC2019_train").mkdir()
    for number, file in enumerate(sorted((root / "ISIC_2019_Training_Input").iterdir())):
        folder = root / "ISIC2019_train" / ["MEL", "NV"][number % 2]
        folder.mkdir(exist_ok=True)
        file.rename(folder / file.name)
    (root / "ISIC_2019_Training_Input").rmdir()
    dataset = Isic2019(root=str(root))
    assert dataset.check() == []
    assert dataset.load(context(tmp_path)).fingerprint == whole.fingerprint


def test_an_age_that_is_none_is_unknown_and_contradictions_are_errors(tmp_path):
    root = isic(tmp_path / "d")
    file = root / "ISIC_2019_Training_Metadata.csv"
    lines = file.read_text().splitlines()
    head = lines[0].split(",")
    age = head.index("age_approx")
    for number, value in enumerate(("nan", "inf", "-1"), 1):
        fields = lines[number].split(",")
        fields[age] = value
        lines[number] = ",".join(fields)
    file.write_text("\n".join(lines) + "\n")
    splits = Isic2019(root=str(root), attribute="age").load(context(tmp_path))
    assert splits.counts["dropped_unknown"] == 4 + 3
    file.write_text("\n".join([*lines, lines[5].replace(",male", ",female").replace(",female", ",other", 1)]) + "\n")
    with pytest.raises(UserError, match="Metadata.csv:82: ISIC_0000004 is listed before with other values"):
        Isic2019(root=str(root)).load(context(tmp_path))
    file.write_text("\n".join(",".join(line.split(",")[:3] + line.split(",")[4:]) for line in lines) + "\n")
    notes = Isic2019(root=str(root)).load(context(tmp_path)).notes
    assert any("has no lesion_id" in note for note in notes)


def test_one_name_in_two_folders_of_classes_is_an_error(tmp_path):
    root = isic(tmp_path / "d")
    (root / "ISIC_2019_Training_Input").rename(root / "ISIC2019_train")
    (root / "ISIC_2019_Training_Input").mkdir()  # left behind, empty
    (root / "ISIC2019_train" / "NV").mkdir()
    (root / "ISIC2019_train" / "NV" / "ISIC_0000001.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="is another image of this name"):
        Isic2019(root=str(root)).load(context(tmp_path))
