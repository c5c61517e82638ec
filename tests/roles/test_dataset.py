"""Splits of images: parts of them, several joined, and how many images each holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairquant.roles import ArrayImages, Split, Splits
from fairquant.roles.dataset import Concat, concat, counts_of

PIXELS = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 2, 2, 3), np.uint8)


def split(rows: list[int], labels: list[int], groups: list[int]) -> Split:
    return Split(
        ArrayImages(PIXELS, np.array(rows)), np.array(labels), np.array(groups), tuple(f"image {r}" for r in rows)
    )


def test_array_images_are_channels_first_in_the_order_of_the_index():
    images = ArrayImages(PIXELS, np.array([4, 0]))
    assert len(images) == 2
    assert images[0].shape == (3, 2, 2)
    assert images[0].dtype == torch.uint8
    assert (int(images[0].max()), int(images[1].max())) == (4, 0)


def test_an_image_can_be_changed_without_changing_the_array():
    ArrayImages(PIXELS, np.array([3]))[0].zero_()
    assert PIXELS[3].min() == 3


def test_a_subset_of_a_subset_keeps_images_labels_groups_and_ids_together():
    part = split([5, 3, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1]).subset(np.array([3, 1, 0])).subset(np.array([2, 0]))
    assert [int(part.images[row].max()) for row in range(2)] == [5, 0]
    assert (part.labels.tolist(), part.groups.tolist(), part.ids) == ([1, 0], [0, 1], ("image 5", "image 0"))


def test_joined_splits_follow_one_another():
    joined = concat((split([5, 3], [1, 0], [0, 0]), split([], [], []), split([1], [1], [1])))
    assert len(joined) == 3
    assert [int(joined.images[row].max()) for row in range(3)] == [5, 3, 1]
    assert joined.ids == ("image 5", "image 3", "image 1")
    with pytest.raises(IndexError):
        joined.images[3]


def test_iterating_over_joined_images_ends():
    assert len(list(Concat((ArrayImages(PIXELS, np.array([0, 1])), ArrayImages(PIXELS, np.array([2])))))) == 3


def test_counts_say_how_many_images_each_split_group_and_class_has():
    splits = Splits(
        train=split([0, 1, 2], [0, 0, 1], [0, 1, 1]), validation=split([3], [1], [0]), test=split([4, 5], [0, 1], [1, 1]),
        class_names=("mole", "wart"), group_names=("dark", "light"), attributes=("skin",), fingerprint="",
        counts={"dropped_unknown": 7},
    )  # fmt: skip
    assert counts_of(splits) == {
        "train": 3, "validation": 1, "test": 2, "dropped_unknown": 7,
        "groups": {"dark": {"train": 1, "validation": 1, "test": 0}, "light": {"train": 2, "validation": 0, "test": 2}},
        "labels": {"mole": {"train": 2, "validation": 0, "test": 1}, "wart": {"train": 1, "validation": 1, "test": 1}},
    }  # fmt: skip
