"""Data that a caller brings in Python's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models import Triples

from fairquant.data.in_memory import InMemoryDataset, in_memory_notes, in_memory_split, in_memory_splits
from fairquant.errors import UserError
from fairquant.roles import DataContext


def splits_of(*seeds: int, **names: object):
    data = {
        name: in_memory_split(name, Triples(6, seed))
        for name, seed in zip(("train", "validation", "test"), seeds, strict=True)
    }
    return in_memory_splits(data, **{"outputs": 2, "class_names": None, "group_names": None, **names})


def test_items_become_a_split_with_a_name_for_each():
    items = Triples(5, 0)
    split = in_memory_split("train", items)
    assert np.array_equal(split.labels, items.labels)
    assert np.array_equal(split.groups, items.groups)
    assert torch.equal(split.images[3], items.images[3])
    assert split.ids == tuple(f"train-{row}" for row in range(5))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(torch.zeros(3, 8, 8), 0)], "train: every item must be .image, label, group."), ([], "train: needs at least one item"),
        ([(torch.zeros(3, 8, 8), "mole", 0)], "whole numbers for label and group"), ([("a.png", 0, 0)], "tensors for images"),
    ],
)  # fmt: skip
def test_items_of_another_form_are_refused(items, message):
    with pytest.raises(UserError, match=message):
        in_memory_split("train", items)


def test_names_are_numbers_unless_they_are_given_and_then_there_must_be_enough():
    assert splits_of(0, 1, 2).class_names == ("class 0", "class 1")
    assert splits_of(0, 1, 2, group_names=["young", "old"]).group_names == ("young", "old")
    with pytest.raises(UserError, match="class_names: 1 names, but there are 2 classes"):
        splits_of(0, 1, 2, class_names=["only"])


def test_outputs_beyond_the_labels_are_classes_without_images_and_too_few_are_refused():
    assert splits_of(0, 1, 2, outputs=4).class_names == ("class 0", "class 1", "class 2", "class 3")
    with pytest.raises(UserError, match="labels up to 1, but the model has 1 outputs"):
        splits_of(0, 1, 2, outputs=1)
    with pytest.raises(UserError, match="class_names: 2 names, but the model has 4 outputs"):
        splits_of(0, 1, 2, outputs=4, class_names=["a", "b"])


def test_negative_labels_and_groups_are_counted_and_refused():
    items = [(torch.zeros(3, 8, 8), row % 2 - (row == 3) * 2, -1) for row in range(6)]
    data = {name: in_memory_split(name, items) for name in ("train", "validation", "test")}
    with pytest.raises(UserError) as caught:
        in_memory_splits(data, 2, None, None)
    assert len(caught.value.problems) == 6
    assert caught.value.problems[0].startswith(
        "train: 1 of 6 labels are negative (unknown?): leave these items out, or give them a label"
    )
    assert caught.value.problems[1].startswith("train: 6 of 6 groups are negative")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_images_of_another_precision_are_read_as_float32(kind):
    items = [(torch.ones(3, 8, 8, dtype=kind), 0, 0)]
    assert in_memory_split("train", items).images[0].dtype == torch.float32


def test_the_fingerprint_changes_with_any_image():
    assert splits_of(0, 1, 2).fingerprint == splits_of(0, 1, 2).fingerprint
    assert splits_of(0, 1, 2).fingerprint != splits_of(0, 1, 3).fingerprint


def test_a_recipe_cannot_bring_the_data_back():
    dataset = InMemoryDataset("f", "m")
    assert dataset.check() == []
    with pytest.raises(UserError, match="start it from Python again"):
        dataset.load(DataContext(0, 32, Path("cache")))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(torch.zeros(3, 8, 8), 0.9, 0)], "0.9 is no whole number"), ([(torch.zeros(3, 8, 8), float("inf"), 0)], "whole numbers"),
        ([(torch.zeros(3, 8, 8), 0, 0), (torch.zeros(3, 9, 8), 0, 0)], r"image 1 is \(3, 9, 8\), the first \(3, 8, 8\)"),
        ([(torch.full((3, 8, 8), torch.nan), 0, 0)], "1 of 1 images are not finite numbers"),
        ([(torch.zeros(3, 8, 8), 0, 0), (np.zeros((3, 8, 8)), 0, 0)], "tensors for images"),
    ],
)  # fmt: skip
def test_items_that_would_be_cut_or_mixed_are_refused(items, message):
    with pytest.raises(UserError, match=message):
        in_memory_split("train", items)


def test_images_in_two_splits_and_groups_without_images_are_said():
    train, test = in_memory_split("train", Triples(6, 0)), in_memory_split("test", Triples(4, 1))
    data = {"train": train, "validation": test, "test": train}
    splits = in_memory_splits(data, outputs=2, class_names=None, group_names=["a", "b", "nobody"])
    notes = in_memory_notes(data, splits)
    assert notes[0] == "6 of 6 different images of test are in train as well, which makes every number too good"
    assert "group without images in train: nobody" in notes
    apart = {"train": train, "validation": test, "test": test}
    apart_notes = in_memory_notes(apart, in_memory_splits(apart, outputs=2, class_names=None, group_names=None))
    assert not any("too good" in note for note in apart_notes)
