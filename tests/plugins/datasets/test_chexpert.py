"""CheXpert in its real layout, with pictures of noise: views, uncertain and blank findings, patients."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairquant_datasets.chexpert import CheXpert
from helpers.data_sets import context, picture, table

from fairquant.errors import UserError


def chexpert(folder: Path, edition: str = "CheXpert-v1.0-small") -> Path:
    """120 rows in train.csv, 6 in valid.csv; each third row is lateral, each patient has three rows, and of four values of the
    finding one is blank and one uncertain."""
    for part, count, first in (("train", 120, 1), ("valid", 6, 64_541)):
        rows = []
        for number in range(count):
            patient = f"patient{first + number // 3:05d}"
            view = "lateral" if number % 3 == 2 else "frontal"
            name = f"{part}/{patient}/study1/view{1 + number % 3}_{view}.jpg"
            picture(folder / name, number + first)
            rows.append({
                "Path": f"{edition}/{name}", "Sex": "Unknown" if number == 3 else ["Male", "Female"][number // 3 % 2],
                "Age": 30 + number % 60, "Frontal/Lateral": view.capitalize(), "AP/PA": "AP", "No Finding": "",
                "Pleural Effusion": ["1.0", "0.0", "", "-1.0"][number % 4],
            })  # fmt: skip
        table(folder / f"{part}.csv", rows)
    return folder


@pytest.mark.parametrize(("options", "images", "positive", "counts"), [
    ({}, 60, 20, {"dropped_other_view": 40, "dropped_unlabelled": 20}),
    ({"uncertain": "positive"}, 79, 39, {"dropped_other_view": 40, "dropped_unknown": 1}),
    ({"uncertain": "negative", "view": "all"}, 119, 30, {"dropped_unknown": 1}),
    ({"blank": "drop"}, 40, 20, {"dropped_other_view": 40, "dropped_unlabelled": 40}),
    ({"view": "lateral", "attribute": "age"}, 30, 10, {"dropped_other_view": 80, "dropped_unlabelled": 10}),
])  # fmt: skip
def test_views_uncertain_and_blank_findings_are_as_declared(tmp_path, options, images, positive, counts):
    root = chexpert(tmp_path / "CheXpert-v1.0-small")
    splits = CheXpert(root=str(root), **options).load(context(tmp_path))
    parts = (splits.train, splits.validation, splits.test)
    assert splits.class_names == ("negative", "positive")
    assert sum(map(len, parts)) == images
    assert sum(int((part.labels == 1).sum()) for part in parts) == positive
    assert splits.counts == {"rows": 120, **counts}
    assert splits.notes[0].startswith("the table has 120 rows, published were 223414")
    patients = [{name.split("/")[1] for name in part.ids} for part in parts]
    assert not patients[0] & patients[1] and not patients[0] & patients[2] and not patients[1] & patients[2]


def test_the_official_validation_part_is_the_test_set(tmp_path):
    chexpert(tmp_path / "d" / "CheXpert-v1.0-small")  # the archive unpacked in the folder
    dataset = CheXpert(root=str(tmp_path / "d"), split="files", view="all", uncertain="negative")
    assert dataset.check() == []
    splits = dataset.load(context(tmp_path))
    assert splits.given
    assert all(name.startswith("valid/") for name in splits.test.ids)
    assert len(splits.test) == 5  # one patient of unknown sex
    assert len({name.split("/")[1] for name in splits.validation.ids}) == 4  # a tenth of 40 patients


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ValueError, match="finding: 'Oedema' is none of .* Did you mean 'Edema'"):
        CheXpert(finding="Oedema")
    (problem,) = CheXpert(root=str(tmp_path)).check()
    assert "lacks train.csv" in problem and "Stanford" in problem
    root = chexpert(tmp_path / "CheXpert-v1.0-small")
    (root / "valid.csv").unlink()
    (problem,) = CheXpert(root=str(root), split="files").check()
    assert "lacks valid.csv" in problem
    with pytest.raises(UserError, match="no column 'Edema'"):
        CheXpert(root=str(root), finding="Edema").load(context(tmp_path))


@pytest.mark.parametrize("path", ["", "view1_frontal.jpg", "CheXpert-v1.0-small/train"])
def test_a_path_without_its_folders_is_named(tmp_path, path):
    root = chexpert(tmp_path / "CheXpert-v1.0-small")
    lines = (root / "train.csv").read_text().splitlines()
    lines[1] = ",".join([path, *lines[1].split(",")[1:]])
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=f"train.csv:2: Path is '{path}', EDITION/train/patient"):
        CheXpert(root=str(root)).load(context(tmp_path))
