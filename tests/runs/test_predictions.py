"""predictions.npz and validation.npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers.predictions import random_predictions

from fairquant.runs.predictions import predictions_npz, read_predictions
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
        assert set(stored) == {"logits", "baseline_logits", "labels", "groups", "group_names", "class_names", "ids"}
