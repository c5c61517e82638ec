"""Accuracies equal independent computations; groups too small are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import random_predictions
from sklearn.metrics import accuracy_score, recall_score

from fairquant.audit.confusion import confusion_tensor
from fairquant.audit.evaluate import evaluate
from fairquant.roles import Confusion


def test_accuracies_equal_scikit_learn(metrics):
    p = random_predictions()
    values = evaluate(p, metrics)
    by_group = {
        n: accuracy_score(p.labels[p.groups == g], p.predicted[p.groups == g]) for g, n in enumerate(p.group_names)
    }
    assert values["accuracy"].value == pytest.approx(accuracy_score(p.labels, p.predicted))
    assert values["accuracy"].by_group == pytest.approx(by_group)
    assert values["balanced-accuracy"].value == pytest.approx(recall_score(p.labels, p.predicted, average="macro"))
    assert values["worst-group-accuracy"].value == pytest.approx(min(by_group.values()))
    assert values["accuracy-gap"].value == pytest.approx(max(by_group.values()) - min(by_group.values()))


def test_accuracies_equal_fairlearn(metrics):
    from fairlearn.metrics import MetricFrame

    p = random_predictions(seed=3)
    frame = MetricFrame(metrics=accuracy_score, y_true=p.labels, y_pred=p.predicted, sensitive_features=p.groups)
    values = evaluate(p, metrics)
    assert values["worst-group-accuracy"].value == pytest.approx(frame.group_min())
    assert values["accuracy-gap"].value == pytest.approx(frame.difference())


def test_a_group_below_the_minimal_support_is_left_out_and_counted():
    """An intersection of attributes with a handful of images must not be the worst group."""
    from fairquant_fair.accuracy import AccuracyGap, WorstGroupAccuracy

    small = random_predictions(count=300, groups=3)
    rows = np.concatenate([np.flatnonzero(small.groups < 2), np.flatnonzero(small.groups == 2)[:3]])
    small_group = small.take(rows)
    small_group = replace(
        small_group,
        logits=np.where(
            (small_group.groups == 2)[:, None], -np.eye(4, dtype=np.float32)[small_group.labels], small_group.logits
        ),
    )
    table = Confusion(confusion_tensor(small_group))
    large = Confusion(table.table[:2])
    assert float(WorstGroupAccuracy().evaluate(table).value) == 0  # three images, all wrong
    for metric in (WorstGroupAccuracy(min_support=10), AccuracyGap(min_support=10)):
        values = metric.evaluate(table)
        assert float(values.value) == float(type(metric)().evaluate(large).value)
        assert int(values.skipped) == 1
