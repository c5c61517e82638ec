"""The same picture, or nearly the same, more than once."""

from __future__ import annotations

import numpy as np

from fairquant.data.duplicates import near_duplicates, one_side, separate, together


def test_patients_and_equal_pictures_are_joined_as_far_as_they_reach():
    keys = ["anna", "anna", "", "bert", "", ""]
    digests = ["1", "2", "2", "3", "3", "4"]
    sides = one_side(keys, digests)
    assert sides[0] == sides[1] == sides[2]  # by the patient, then by the picture
    assert sides[3] == sides[4]
    assert len(set(sides)) == 3


def test_copies_go_where_the_first_of_them_is():
    rows = (np.array([0, 3]), np.array([1]), np.array([2, 4]))
    assert [each.tolist() for each in together(rows, ["a", "b", "c", "c", "a"])] == [[0, 4], [1], [2, 3]]
    assert [each.tolist() for each in together(rows, list("abcde"))] == [[0, 3], [1], [2, 4]]


def test_a_picture_on_two_sides_stays_where_it_is_tested():
    splits = ["train", "test", "train", "val", "train", "validation"]
    digests = ["a", "a", "b", "b", "c", "d"]
    assert separate(splits, digests).tolist() == [1, 3, 4, 5]


def test_pictures_that_look_nearly_the_same_are_named_and_others_not():
    draw = np.random.default_rng(0)
    pictures = np.kron(draw.integers(0, 255, (12, 8, 8, 3)), np.ones((1, 6, 6, 1))).astype(np.uint8)
    changed = np.clip(pictures[3].astype(int) + 6, 0, 255).astype(np.uint8)  # brighter
    array = np.concatenate([pictures, changed[None]])
    names = [f"p{row}" for row in range(13)]
    assert near_duplicates(array, np.arange(13), names) == ["1 pair(s) of pictures look nearly the same: p3 ~ p12"]
    assert near_duplicates(pictures, np.arange(12), names[:12]) == []
    flat = near_duplicates(np.full((4, 48, 48, 3), 7, np.uint8), np.arange(4), names[:4])
    assert flat == ["4 picture(s) have next to no contrast, such as p0: they are not compared as near-duplicates"]
