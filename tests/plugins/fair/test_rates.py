"""Gaps of rates equal fairlearn, scikit-learn and each convention done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.predictions import only, random_predictions, scored_predictions
from sklearn.metrics import confusion_matrix

from fairquant.audit.confusion import confusion_tensor
from fairquant.audit.evaluate import evaluate
from fairquant.recipe.schema import Component
from fairquant.roles import Confusion


def cells(p):
    """Rates by scikit-learn: (group, class) -> TPR, FPR, images of the class, images of others; None where undefined."""
    rates = {}
    for g in range(len(p.group_names)):
        member = p.groups == g
        table = confusion_matrix(p.labels[member], p.predicted[member], labels=range(len(p.class_names)))
        for c in range(len(p.class_names)):
            positive, negative = table[c].sum(), table.sum() - table[c].sum()
            wrong = table[:, c].sum() - table[c, c]
            rates[g, c] = (
                table[c, c] / positive if positive else None, wrong / negative if negative else None, positive, negative,
                table[:, c].sum() / table.sum(),
            )  # fmt: skip
    return rates


def test_binary_gaps_equal_fairlearn(plugins):
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    p = random_predictions(classes=2, seed=4)
    load = plugins.registry.load
    values = evaluate(
        p, [Component("eodd", load("metric", "eodd")()), Component("dp", load("metric", "demographic-parity")())]
    )
    sensitive = {"sensitive_features": p.groups}
    # with two classes the one-vs-rest gaps of one class are those of the other with TPR and TNR exchanged
    assert values["eodd"].value == pytest.approx(equalized_odds_difference(p.labels, p.predicted, **sensitive))
    assert values["dp"].value == pytest.approx(demographic_parity_difference(p.labels, p.predicted, **sensitive))


def test_the_valid_convention_by_hand(metrics):
    p = random_predictions(count=250, classes=5, groups=3, seed=5)
    keep = ~((p.groups == 2) & (p.labels == 4))  # class 4 is absent from group 2
    p = p.take(np.flatnonzero(keep))
    table, groups, classes = cells(p), range(3), range(5)
    gaps0, gaps1, gaps_odd, skipped = [], [], [], 0
    for c in classes:
        hits = [table[g, c][0] for g in groups if table[g, c][2] >= 10]
        alarms = [table[g, c][1] for g in groups if table[g, c][3] >= 10]
        skipped += 3 - len(hits)
        if len(hits) >= 2:
            gaps1.append(max(hits) - min(hits))
            gaps_odd.append(max(max(hits) - min(hits), max(alarms) - min(alarms)))
        gaps0.append(max(alarms) - min(alarms))
    values = evaluate(p, metrics)
    assert values["eopp1"].value == pytest.approx(np.mean(gaps1))
    assert values["eopp1"].skipped == skipped >= 1
    assert values["eopp0"].value == pytest.approx(np.mean(gaps0))
    assert values["predictive-equality"].value == pytest.approx(np.mean(gaps0))
    assert values["eodd"].value == pytest.approx(np.mean(gaps_odd))


def test_the_fairquant_convention_by_hand(metrics):
    p = random_predictions(count=250, classes=5, groups=3, seed=6)
    p = p.take(np.flatnonzero(~((p.groups == 2) & (p.labels == 4))))
    table = cells(p)
    tpr, fpr = [], []
    for c in range(5):
        hits = [table[g, c][0] for g in range(3)]
        tpr.append(0 if None in hits else max(hits) - min(hits))
        alarms = [table[g, c][1] for g in range(3)]
        fpr.append(max(alarms) - min(alarms))
    values = evaluate(p, metrics)
    assert values["eopp1-fairquant"].value == pytest.approx(np.mean(tpr))
    assert values["eopp0-fairquant"].value == pytest.approx(np.mean(fpr))
    assert values["eodd-fairquant"].value == pytest.approx(np.mean(np.add(tpr, fpr)))


def test_the_fairprune_convention_by_hand(metrics):
    p = random_predictions(count=200, classes=5, groups=2, seed=7)
    p = p.take(np.flatnonzero(~((p.groups == 1) & (p.labels == 4))))
    table = cells(p)
    tpr = [(table[0, c][0] or 0) - (table[1, c][0] or 0) for c in range(5)]
    fpr = [table[0, c][1] - table[1, c][1] for c in range(5)]
    values = evaluate(p, metrics)
    assert values["eopp1-fairprune"].value == pytest.approx(np.mean(np.abs(tpr)))
    assert values["eopp0-fairprune"].value == pytest.approx(np.mean(np.abs(fpr)))
    assert values["eodd-fairprune"].value == pytest.approx(np.mean(np.abs(np.add(tpr, fpr))) / 2)
    assert values["eodd-fairprune"].value != pytest.approx(values["eodd-fairquant"].value, rel=0.05)


def test_fairprune_is_undefined_for_three_groups_and_says_how_many_cells_that_skips(metrics):
    values = evaluate(random_predictions(), only(metrics, "eodd-fairprune"))["eodd-fairprune"]
    assert math.isnan(values.value)
    assert values.skipped == 12


def test_predictive_parity_equals_scikit_learn_precision():
    from fairquant_fair.rates import PredictiveParity
    from sklearn.metrics import precision_score

    predictions = scored_predictions()
    by_group = [
        precision_score(predictions.labels[r], predictions.predicted[r], average=None)
        for r in (predictions.groups == group for group in range(3))
    ]
    expected = (np.max(by_group, 0) - np.min(by_group, 0)).mean()
    value = PredictiveParity(min_support=1).evaluate(Confusion(confusion_tensor(predictions))).value
    assert float(value) == pytest.approx(expected)
