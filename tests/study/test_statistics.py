"""Paired differences and spread over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fairquant_fair.accuracy import Accuracy, WorstGroupAccuracy
from fairquant_fair.scores import BrierScore

from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.roles import Predictions
from fairquant.study.statistics import paired_differences, spread

METRICS = [
    Component("accuracy", Accuracy()), Component("worst-group-accuracy", WorstGroupAccuracy()),
    Component("brier", BrierScore()),
]  # fmt: skip


def right_at(right: float, count: int = 300, seed: int = 0) -> Predictions:
    truth, draw = np.random.default_rng(0), np.random.default_rng(seed)
    labels, groups = truth.integers(0, 3, count), truth.integers(0, 2, count)
    logits = draw.normal(size=(count, 3)).astype(np.float32)
    hit = draw.random(count) < right
    logits[np.arange(count), labels] += np.where(hit, 6, -6)
    return Predictions(
        logits=logits,
        labels=labels,
        groups=groups,
        group_names=("a", "b"),
        class_names=("x", "y", "z"),
        ids=tuple(map(str, range(count))),
    )


def test_a_difference_is_paired_and_its_interval_covers_what_it_should():
    good, bad = right_at(0.9, seed=1), right_at(0.7, seed=2)
    differences = paired_differences([(bad, good)], METRICS)
    expected = (good.predicted == good.labels).mean() - (bad.predicted == bad.labels).mean()
    assert differences["accuracy"].value == pytest.approx(expected)
    assert differences["accuracy"].low < expected < differences["accuracy"].high
    assert differences["accuracy"].significant
    assert differences["brier"].value < 0
    same = paired_differences([(good, good)], METRICS)
    assert all((d.value, d.low, d.high) == (0, 0, 0) and not d.significant for d in same.values())
    # pairing matters: few images differ between these two, so that the interval is far narrower than an unpaired one
    logits = good.logits.copy()
    logits[:3] *= -1
    narrow = paired_differences([(good, replace(good, logits=logits))], METRICS)["accuracy"]
    unpaired = 2 * 1.96 * np.sqrt(2 * 0.9 * 0.1 / 300)
    assert narrow.high - narrow.low < unpaired / 2
    with pytest.raises(UserError, match="not tested on the same images"):
        paired_differences([(good, replace(good, ids=tuple("abc" * 100)))], METRICS)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Two methods of equal quality: about one interval in twenty excludes 0."""
    significant = sum(
        paired_differences([(right_at(0.8, seed=2 * k), right_at(0.8, seed=2 * k + 1))], METRICS[:1], replicates=200)[
            "accuracy"
        ].significant
        for k in range(100)
    )
    assert significant <= 12


def test_spread_over_seeds():
    assert (spread([1.0, 3.0]).mean, spread([1.0, 3.0]).deviation) == (2.0, pytest.approx(2**0.5))
    assert np.isnan(spread([1.0]).deviation)
    assert spread([1.0, None]).mean == 1.0
