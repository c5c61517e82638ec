"""The audit: intervals, permutation baselines, change against full precision, and the laws of metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import only, random_predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.audit.evaluate import audit, evaluate, interval
from fairquant.recipe.schema import Component
from fairquant.roles import Predictions


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), order=st.permutations(range(3)))
def test_metrics_do_not_depend_on_the_order_or_names_of_groups(metrics, seed, order):
    p = random_predictions(count=150, seed=seed)
    order = np.array(order)
    renamed = replace(p, groups=order[p.groups], group_names=tuple("xyz"[g] for g in range(3)))
    shuffled = renamed.take(np.random.default_rng(seed).permutation(150))
    first, second = evaluate(p, metrics, replicates=10), evaluate(shuffled, metrics, replicates=10)
    for label, value in first.items():
        assert second[label].value == pytest.approx(value.value, nan_ok=True)
        for g in range(3):
            assert second[label].by_group["xyz"[order[g]]] == pytest.approx(value.by_group[f"g{g}"], nan_ok=True)


def test_equal_groups_have_gap_zero(metrics):
    p = random_predictions(count=200, groups=1)
    twice = Predictions(
        logits=np.concatenate([p.logits] * 2),
        labels=np.concatenate([p.labels] * 2),
        groups=np.repeat([0, 1], 200),
        group_names=("a", "b"),
        class_names=p.class_names,
    )
    values = evaluate(twice, metrics, replicates=10)
    gaps = [component.label for component in metrics if component.value.gap]
    assert len(gaps) == 13
    assert all(values[label].value == pytest.approx(0, abs=1e-12) for label in gaps)


def test_intervals_cover_the_truth_about_as_often_as_they_say(metrics):
    """Accuracy .7 over 300 images: the 95 % interval should hold it about 95 times in 100."""
    covered = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, 300)
        right = draw.random(300) < 0.7
        logits = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
        p = Predictions(
            logits=logits,
            labels=labels,
            groups=draw.integers(0, 2, 300),
            group_names=("a", "b"),
            class_names=("n", "y"),
        )
        accuracy = evaluate(p, only(metrics, "accuracy"), seed=seed, replicates=400)["accuracy"]
        covered += accuracy.low <= 0.7 <= accuracy.high
    assert 88 <= covered <= 100


def test_every_interval_holds_its_value_and_gaps_show_their_permutation_baseline(metrics):
    for seed in range(5):
        for label, value in evaluate(random_predictions(seed=seed), metrics).items():
            if not math.isnan(value.value):
                assert value.low <= value.value + 1e-9, label
                assert value.high >= value.value - 1e-9, label
        gap = evaluate(random_predictions(seed=seed), only(metrics, "accuracy-gap"))["accuracy-gap"]
        assert 0 < gap.permutation_baseline < gap.value


def test_the_permutation_baseline_of_many_classes_is_far_from_zero(metrics):
    p = random_predictions(count=3000, classes=60, groups=2, accuracy=0.5)
    p = replace(p, groups=np.random.default_rng(77).integers(0, 2, 3000))
    gap = evaluate(p, only(metrics, "eopp1"))["eopp1"]
    assert gap.permutation_baseline > 0.05
    assert gap.value == pytest.approx(gap.permutation_baseline, rel=0.4)


def test_sample_metrics_are_resampled(plugins):
    class Confidence:
        needs, gap = "predictions", False

        def evaluate(self, p):
            from fairquant.roles import Rates

            return Rates(np.asarray(p.logits.max(1).mean()))

    confidence = evaluate(random_predictions(), [Component("confidence", Confidence())])["confidence"]
    assert confidence.low < confidence.value < confidence.high


def test_an_interval_holds_the_middle_of_the_replicates():
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert all(map(math.isnan, interval(np.array([0.5] + [np.nan] * 2))))  # most replicates have no value


def test_the_interval_of_a_gap_is_centred_on_it_and_not_below_zero():
    low, high = interval(np.linspace(0.2, 0.6, 1001), around=0.1)
    assert (low, high) == pytest.approx((0.0, 0.29), abs=1e-6)


def test_an_audit_holds_both_models_their_difference_and_the_images_of_each_group(metrics):
    before = random_predictions(count=120, seed=1)
    after = replace(before, logits=before.logits[:, ::-1].copy())
    audited = audit(after, before, only(metrics, "accuracy"), replicates=50)
    assert audited.images == {
        name: int(n) for name, n in zip(before.group_names, np.bincount(before.groups), strict=True)
    }
    difference = audited.metrics["accuracy"].value - audited.baseline["accuracy"].value
    assert audited.change["accuracy"].value == pytest.approx(difference)
