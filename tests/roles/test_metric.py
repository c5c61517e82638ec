"""Predictions, confusion counts, and which way of a metric is better."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.predictions import random_predictions
from scipy.special import softmax

from fairquant.audit.confusion import confusion_tensor
from fairquant.roles import Confusion
from fairquant.roles.metric import lower_is_better


def test_the_prediction_is_the_class_with_the_largest_logit_and_probabilities_are_its_softmax():
    p = random_predictions(count=50)
    assert np.array_equal(p.predicted, p.probabilities.argmax(1))
    assert p.probabilities == pytest.approx(softmax(p.logits.astype(float), 1))


def test_taking_rows_keeps_logits_labels_groups_and_ids_together():
    p = random_predictions(count=5)
    some = p.take(np.array([4, 0, 4]))
    assert np.array_equal(some.logits, p.logits[[4, 0, 4]])
    assert np.array_equal(some.labels, p.labels[[4, 0, 4]])
    assert np.array_equal(some.groups, p.groups[[4, 0, 4]])
    assert some.ids == ()


def test_what_metrics_share_is_computed_once_for_each_set_of_options():
    calls = []

    def ranks(predictions, power):
        calls.append(power)
        return predictions.logits.sum() ** power

    p = random_predictions(count=5)
    assert p.shared(ranks, 1) == p.shared(ranks, 1)
    assert p.shared(ranks, 2) == p.logits.sum() ** 2
    assert calls == [1, 2]
    assert p.take(np.arange(2)).shared(ranks, 1) == pytest.approx(p.logits[:2].sum())  # other images: computed again


def test_the_sums_of_a_confusion_are_those_of_the_images():
    p = random_predictions(count=200)
    table = Confusion(confusion_tensor(p))
    for g in range(3):
        for c in range(4):
            member = p.groups == g
            assert table.hits[g, c] == (member & (p.labels == c) & (p.predicted == c)).sum()
            assert table.truth[g, c] == (member & (p.labels == c)).sum()
            assert table.predicted[g, c] == (member & (p.predicted == c)).sum()
    assert table.images.tolist() == np.bincount(p.groups).tolist()


def test_sums_keep_any_number_of_leading_axes():
    table = np.random.default_rng(0).integers(0, 9, (5, 2, 3, 4, 4)).astype(float)
    many = Confusion(table)
    assert many.hits.shape == many.truth.shape == many.predicted.shape == (5, 2, 3, 4)
    assert np.array_equal(many.truth[3, 1], Confusion(table[3, 1]).truth)


def test_gaps_are_better_low_and_a_metric_may_say_otherwise():
    class Accuracy:
        needs, gap = "confusion", False

    class Gap:
        needs, gap = "confusion", True

    class Error:
        needs, gap, lower_is_better = "predictions", False, True

    assert [lower_is_better(metric()) for metric in (Accuracy, Gap, Error)] == [False, True, True]


def test_what_metrics_read_cannot_be_written_into():
    p = random_predictions(count=5)
    table = np.ones((1, 2, 2))
    for values in (
        p.logits,
        p.labels,
        p.groups,
        p.predicted,
        p.probabilities,
        Confusion(table).table,
        Confusion(table).hits,
        Confusion(table).truth,
        Confusion(table).predicted,
        Confusion(table).images,
        Confusion(table).shared(lambda confusion: np.ones(3)),
    ):
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0
    table[...] = 2.0  # the caller's own array stays as it is
