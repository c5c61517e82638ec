"""predictions.npz and validation.npz."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.predictions import random_predictions

from fairquant.errors import UserError
from fairquant.roles import OperatingPoint
from fairquant.runs.predictions import checked_predictions, predictions_npz, read_predictions
from fairquant.runs.results import BeforeAfter


def both() -> BeforeAfter:
    before, after = random_predictions(30, seed=1), random_predictions(30, seed=2)
    names = tuple(f"image {row}" for row in range(30))
    before = replace(before, ids=names)
    return BeforeAfter(before, replace(before, logits=after.logits))


def test_predictions_come_back_as_they_were():
    Path("p.npz").write_bytes(predictions_npz(both()))
    again = read_predictions(Path("p.npz"))
    for one, other in ((again.before, both().before), (again.after, both().after)):
        assert np.array_equal(one.logits, other.logits)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.groups, other.groups)
        assert (one.ids, one.group_names, one.class_names) == (other.ids, other.group_names, other.class_names)


def test_the_same_numbers_are_the_same_bytes_and_no_pickle():
    assert predictions_npz(both()) == predictions_npz(both())
    Path("p.npz").write_bytes(predictions_npz(both()))
    with np.load("p.npz", allow_pickle=False) as stored:
        assert set(stored) == {
            "logits",
            "baseline_logits",
            "labels",
            "groups",
            "group_names",
            "class_names",
            "ids",
            "positive_classes",
            "thresholds",
        }


def test_operating_points_come_back_each_models_own():
    plain = both()
    before, after = (
        replace(each, operating=OperatingPoint((1, 3), threshold))
        for each, threshold in ((plain.before, 0.25), (plain.after, 1 / 3))
    )
    Path("p.npz").write_bytes(predictions_npz(BeforeAfter(before, after)))
    again = read_predictions(Path("p.npz"))
    assert again.before.operating == OperatingPoint((1, 3), 0.25)
    assert again.after.operating == OperatingPoint((1, 3), 1 / 3)
    Path("p.npz").write_bytes(predictions_npz(plain))
    assert read_predictions(Path("p.npz")).after.operating is None


def test_a_file_of_an_older_version_without_them_is_read_too():
    Path("p.npz").write_bytes(predictions_npz(both()))
    with np.load("p.npz") as stored:
        old = {key: stored[key] for key in stored if key not in ("positive_classes", "thresholds")}
    np.savez("p.npz", **old)
    assert read_predictions(Path("p.npz")).before.operating is None


def test_a_file_that_is_missing_cut_off_foreign_or_does_not_fit_is_refused_with_its_name():
    file = Path("p.npz")
    with pytest.raises(UserError, match=r"p\.npz: missing\. Name the model\.safetensors"):
        checked_predictions(file)
    whole = predictions_npz(both())
    for content in (whole[: len(whole) // 2], b"", b"no archive", pickle.dumps([1, 2])):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"p\.npz: damaged or cut off\. Remove it"):
            checked_predictions(file)
    np.save("p.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"p\.npy: damaged"):
        checked_predictions(Path("p.npy"))
    np.savez(file, logits=np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"p\.npz: damaged or cut off"):
        checked_predictions(file)


@pytest.mark.parametrize(
    "change",
    [{"labels": np.full(30, 9)}, {"groups": np.full(30, -1)}, {"ids": np.array(["one"])}, {"labels": np.zeros(30)},
     {"logits": np.zeros((30, 7), np.float32)}, {"logits": np.full((30, 4), "x")}],
    ids=["label", "group", "ids", "kind", "classes", "text"],
)  # fmt: skip
def test_arrays_that_do_not_fit_together_are_refused(change):
    file = Path("p.npz")
    file.write_bytes(predictions_npz(both()))
    assert checked_predictions(file).labels.shape == (30,)
    with np.load(file) as stored:
        np.savez(file, **{**dict(stored), **change})
    with pytest.raises(UserError, match="its arrays do not fit together"):
        checked_predictions(file)
