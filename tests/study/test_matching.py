"""Two predictions side by side: images by id, classes and groups by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import two_models

from fairquant.errors import UserError
from fairquant.roles import Predictions
from fairquant.study.matching import Predicted, match, with_classes


def on_data(predictions: Predictions, fingerprint: str = "same", dataset: str = "isic2019") -> Predicted:
    return Predicted(predictions, dataset, fingerprint)


def permuted(predictions: Predictions, classes: list[int], groups: list[int]) -> Predictions:
    """The same predictions with classes and groups in another order."""
    return replace(
        predictions, logits=predictions.logits[:, classes], labels=np.argsort(classes)[predictions.labels],
        groups=np.argsort(groups)[predictions.groups], class_names=tuple(predictions.class_names[c] for c in classes),
        group_names=tuple(predictions.group_names[g] for g in groups),
    )  # fmt: skip


def same(one: Predictions, other: Predictions) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("logits", "labels", "groups"))
    return arrays and (one.ids, one.class_names, one.group_names) == (other.ids, other.class_names, other.group_names)


def test_the_same_images_in_any_order_of_images_classes_and_groups_are_the_same():
    a, b = two_models()
    shuffled = permuted(b, [2, 0, 3, 1], [1, 2, 0]).take(np.random.default_rng(0).permutation(40))
    matched = match(on_data(a), on_data(shuffled))
    assert (matched.pairing, matched.notes) == ("same", ())
    assert same(matched.a, a)
    assert same(matched.b, b)


def test_images_in_common_are_matched_by_id_and_counted():
    a, b = two_models()
    matched = match(on_data(a.take(np.arange(30)), "x"), on_data(b.take(np.arange(39, 9, -1)), "y"))
    assert matched.pairing == "common"
    assert matched.a.ids == matched.b.ids == a.ids[10:30]
    assert np.array_equal(matched.b.logits, b.logits[10:30])
    assert "the test images differ (A: 30, B: 30): compared on the 20 that both have" in matched.notes[0]


def test_an_id_that_is_there_twice_is_matched_as_often_as_both_have_it():
    a, b = two_models()
    rows = np.array([0, 0, 1])
    matched = match(on_data(a.take(rows)), on_data(b.take(np.array([0, 1, 1]))))
    assert matched.a.ids == matched.b.ids == ("image 0", "image 1")


def test_ids_of_other_data_whose_classes_do_not_agree_name_other_images():
    a, b = two_models()
    other = replace(b, labels=(b.labels + 1) % 4)
    matched = match(on_data(a, "x"), on_data(other, "y"))
    assert matched.pairing == "none"
    assert same(matched.a, a)
    assert same(matched.b, other)
    assert "cannot be compared image by image" in matched.notes[0]
    assert "40 ids are in both, but name other images: 40 have another class in B" in matched.notes[1]


def test_a_corrected_label_costs_its_image_only():
    a, b = two_models()
    corrected = replace(b, labels=np.where(np.arange(40) == 7, (b.labels + 1) % 4, b.labels))
    matched = match(on_data(a, "x"), on_data(corrected, "y"))
    assert matched.pairing == "common"
    assert "image 7" not in matched.b.ids
    assert len(matched.b.ids) == 39
    assert "1 image(s) have another class in B: left out" in matched.notes[1]


def test_images_from_memory_are_matched_in_the_same_data_only():
    a, b = two_models()
    assert match(on_data(a, "x", "in-memory"), on_data(b, "x", "in-memory")).pairing == "same"
    assert match(on_data(a, "x", "in-memory"), on_data(b, "y", "in-memory")).pairing == "none"
    assert match(on_data(a, "", "in-memory"), on_data(b, "", "in-memory")).pairing == "none"  # not known


def test_images_without_a_common_id_keep_all_of_both_with_groups_by_name():
    a, b = two_models()
    far = permuted(replace(b, ids=tuple(f"other {row}" for row in range(40))), [0, 1, 2, 3], [2, 1, 0])
    matched = match(on_data(a), on_data(far, "y"))
    assert matched.pairing == "none"
    assert matched.b.group_names == a.group_names
    assert np.array_equal(matched.b.groups, b.groups)
    assert len(matched.notes) == 1


def test_other_groups_of_the_same_images_are_those_of_a_and_said():
    a, b = two_models()
    matched = match(on_data(a), on_data(replace(b, group_names=("x", "y", "z"))))
    assert matched.b.group_names == a.group_names
    assert "the groups of B are others (x, y, z)" in matched.notes[0]
    moved = replace(b, groups=np.where(np.arange(40) < 2, (b.groups + 1) % 3, b.groups))
    matched = match(on_data(a), on_data(moved))
    assert np.array_equal(matched.b.groups, a.groups)
    assert matched.notes == ("2 image(s) are in another group in B: both are shown by the groups of A",)


def test_classes_that_differ_are_an_error_that_names_them():
    a, b = two_models()
    other = replace(b, class_names=("c0", "c1", "c2", "melanoma"))
    with pytest.raises(UserError, match="only A has 'c3'; only B has 'melanoma'"):
        match(on_data(a), on_data(other))
    assert with_classes(a, a.class_names) is a
