"""MedMNIST's .npz files, with pictures of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fairquant_datasets.medmnist import SETS, MedMnist
from helpers.data_sets import context, table

from fairquant.errors import UserError


def archive(root: Path, name: str = "pneumoniamnist", colour: bool = False, **change: object) -> MedMnist:
    """30, 8 and 12 images."""
    draw = np.random.default_rng(1)
    arrays: dict[str, object] = {}
    for part, count in (("train", 30), ("val", 8), ("test", 12)):
        arrays[f"{part}_images"] = draw.integers(0, 256, (count, 28, 28, 3) if colour else (count, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    arrays.update(change)
    root.mkdir(exist_ok=True)
    np.savez(root / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})
    return MedMnist(root=str(root), subset=name)


@pytest.mark.parametrize(("name", "colour"), [("pneumoniamnist", False), ("dermamnist", True)])
def test_images_labels_and_split_are_those_of_the_file(tmp_path, name, colour):
    dataset = archive(tmp_path / "d", name, colour)
    assert dataset.check() == []
    stored = np.load(dataset.file)
    splits = dataset.load(context(tmp_path, size=28))
    assert splits.class_names == splits.group_names == SETS[name][0][:2]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 8, 12]
    first = stored["test_images"][0]
    expected = first if colour else np.repeat(first[:, :, None], 3, 2)
    np.testing.assert_array_equal(np.asarray(splits.test.images[0]).reshape(3, 28, 28), expected.transpose(2, 0, 1))
    assert any("no sensitive attribute" in note for note in splits.notes)
    assert any(f"published were {list(SETS[name][1])}" in note for note in splits.notes)
    assert len(dataset.load(context(tmp_path, size=16)).train) == 30  # another size


def test_groups_come_from_a_table_by_part_and_number(tmp_path):
    dataset = archive(tmp_path / "d")
    rows = [
        {"split": part, "index": row, "group": ["a", "b"][row // 2 % 2]}
        for part, count in (("train", 30), ("val", 8), ("test", 10)) for row in range(count)
    ]  # fmt: skip
    table(tmp_path / "groups.csv", rows)
    dataset = MedMnist(root=dataset.root, groups=str(tmp_path / "groups.csv"))
    splits = dataset.load(context(tmp_path))
    assert splits.group_names == ("a", "b")
    assert splits.counts == {"rows": 50, "dropped_unknown": 2}
    assert splits.test.groups.tolist() == [row // 2 % 2 for row in range(10)]
    table(tmp_path / "groups.csv", [*rows, {"split": "test", "index": 12, "group": "a"}])
    with pytest.raises(UserError, match="1 row\\(s\\) name no image of pneumoniamnist.npz, first 'test 12'"):
        dataset.load(context(tmp_path))


def test_a_picture_of_test_is_not_trained_on(tmp_path):
    draw = np.random.default_rng(2)
    train = draw.integers(0, 256, (30, 28, 28), np.uint8)
    test = draw.integers(0, 256, (12, 28, 28), np.uint8)
    train[4] = test[5]
    splits = archive(tmp_path / "d", train_images=train, test_images=test).load(context(tmp_path))
    assert "train 4" not in splits.train.ids and "test 5" in splits.test.ids
    assert splits.counts["dropped_on_two_sides"] == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"val_images": None}, "it has no val_images"),
    ({"train_images": np.zeros((30, 28, 28, 28), np.uint8)}, "no volumes"),
    ({"train_labels": np.zeros((29, 1), np.uint8)}, "30 train_images and 29 train_labels"),
    ({"train_labels": np.full((30, 1), 7, np.uint8)}, "not one of 2 classes for each image"),
    ({"train_labels": np.zeros((30, 14), np.uint8), "val_labels": np.zeros((8, 14), np.uint8),
      "test_labels": np.zeros((12, 14), np.uint8)}, "not one of 2 classes for each image"),
    ({"train_labels": np.full((30, 1), 0.7)}, "not one of 2 classes for each image"),
    ({"train_labels": np.array(["a"] * 30)}, "not one of 2 classes for each image"),
    ({f"{part}_labels": np.zeros((count, 1), np.uint8) for part, count in (("train", 30), ("val", 8), ("test", 12))},
     "all images have one label"),
])  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        archive(tmp_path / "d", **change).load(context(tmp_path))


def test_a_torn_or_missing_file_is_named(tmp_path):
    dataset = archive(tmp_path / "d")
    content = dataset.file.read_bytes()
    np.save(dataset.file.with_suffix(".npy"), np.zeros(3))
    dataset.file.write_bytes(dataset.file.with_suffix(".npy").read_bytes())
    with pytest.raises(UserError, match="cannot be read as .npz"):
        dataset.load(context(tmp_path))
    dataset.file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read as .npz"):
        dataset.load(context(tmp_path))
    dataset.file.unlink()
    (problem,) = dataset.check()
    assert "fairquant data prepare medmnist" in problem
    (source,) = dataset.sources()
    assert source.target == "pneumoniamnist.npz"
    assert MedMnist(pixels=64).sources()[0].target == "pneumoniamnist_64.npz"
