"""Train, validation and test without leaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.data.splits import LabelledImages, encode_labels, make_splits, rows_by_name, split_rows
from fairquant.errors import UserError


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 3, count), draw.integers(0, 2, count)


def images_of(labels: np.ndarray, groups: np.ndarray, **more: object) -> LabelledImages:
    count = len(labels)
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3))
    return LabelledImages(
        array=pixels, labels=labels, groups=groups, ids=[f"image {row}" for row in range(count)],
        class_names=["a", "b", "c"], group_names=["dark", "light"], attributes=["skin"], digest="x", **more,
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(count=st.integers(5, 120), seed=st.integers(0, 99), lesions=st.one_of(st.none(), st.integers(5, 40)))
def test_every_image_is_in_one_split_and_no_lesion_in_two(count, seed, lesions):
    labels, groups = drawn(count, seed)
    keys = None if lesions is None else [f"lesion {row % lesions}" for row in range(count)]
    parts = split_rows(labels, groups, seed, keys)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    if keys is not None:
        of_split = [{keys[row] for row in part} for part in parts]
        assert not of_split[0] & of_split[1] | of_split[0] & of_split[2] | of_split[1] & of_split[2]


def test_splits_are_60_20_20_within_every_class_and_group():
    labels, groups = drawn(600)
    train, validation, test = split_rows(labels, groups, 1)
    for part, fraction in ((train, 0.6), (validation, 0.2), (test, 0.2)):
        for label in range(3):
            for group in range(2):
                of_cell = (labels == label) & (groups == group)
                assert of_cell[part].sum() == pytest.approx(fraction * of_cell.sum(), abs=2)


def test_the_split_depends_on_its_seed_only():
    labels, groups = drawn(60)
    assert all(
        np.array_equal(a, b) for a, b in zip(split_rows(labels, groups, 3), split_rows(labels, groups, 3), strict=True)
    )
    assert not np.array_equal(split_rows(labels, groups, 3)[0], split_rows(labels, groups, 4)[0])


def test_too_few_images_cannot_be_split():
    with pytest.raises(UserError, match="4 images are too few"):
        split_rows(np.zeros(4, np.int64), np.zeros(4, np.int64), 0)


def test_a_column_of_splits_is_followed():
    train, validation, test = rows_by_name(["train", "val", " Test ", "valid", "TRAIN"])
    assert (train.tolist(), validation.tolist(), test.tolist()) == ([0, 4], [1, 3], [2])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["train", "exam", "test"], r"unknown value\(s\) \['exam'\]"),
        (["train", "val"], "no image that can be used is marked test"),
    ],
)
def test_a_column_that_names_no_split_or_leaves_one_empty_is_refused(column, message):
    with pytest.raises(UserError, match=message):
        rows_by_name(column)


def test_images_labels_and_ids_stay_together():
    labels, groups = drawn(20)
    splits = make_splits(images_of(labels, groups), (np.arange(12), np.arange(12, 16), np.arange(16, 20)))
    assert splits.test.ids == ("image 16", "image 17", "image 18", "image 19")
    assert [int(splits.test.images[row].max()) for row in range(4)] == [16, 17, 18, 19]
    assert np.array_equal(splits.test.labels, labels[16:])


def test_array_rows_say_where_an_image_lies_once_others_were_dropped():
    labels, groups = drawn(4)
    images = images_of(labels, groups, array_rows=np.array([3, 2, 1, 0]))
    splits = make_splits(images, (np.array([0, 1]), np.array([2]), np.array([3])))
    assert [int(splits.train.images[row].max()) for row in range(2)] == [3, 2]


def test_the_fingerprint_changes_with_content_labels_and_splits():
    labels, groups = drawn(20)
    rows = np.arange(12), np.arange(12, 16), np.arange(16, 20)
    first = make_splits(images_of(labels, groups), rows).fingerprint
    assert make_splits(images_of(labels, groups), rows).fingerprint == first
    assert make_splits(images_of(labels[::-1], groups), rows).fingerprint != first
    assert make_splits(images_of(labels, groups), (rows[0], rows[2], rows[1])).fingerprint != first


def test_small_splits_are_warned_of():
    labels, groups = np.array([0] * 40 + [1] * 40), np.zeros(80, np.int64)
    notes = make_splits(images_of(labels, groups), (np.arange(40), np.arange(40, 42), np.arange(42, 80))).notes
    assert "class 'b' is in test but not in train: all of its images will be misclassified" in notes
    assert "group 'light' has no image in train" in notes
    assert any(
        note == "fewer than 30 test images, too few for reliable estimates, see the intervals: group 'light' (0)"
        for note in notes
    )
    assert not any("'dark'" in note for note in notes)


def test_names_are_numbered_in_sorted_order():
    numbers, names = encode_labels(["wart", "mole", "wart"])
    assert (numbers.tolist(), names) == ([1, 0, 1], ("mole", "wart"))
