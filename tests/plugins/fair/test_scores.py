"""Areas under curves, calibration and Brier score equal independent computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import scored_predictions

from fairquant.audit.confusion import image_weights
from fairquant.audit.evaluate import evaluate
from fairquant.recipe.schema import Component


def test_auc_equals_scikit_learn_overall_and_by_group():
    from fairquant_fair.scores import Auc, WorstGroupAuc
    from sklearn.metrics import roc_auc_score

    predictions = scored_predictions()
    rates = Auc().evaluate(predictions)
    expected = roc_auc_score(predictions.labels, predictions.probabilities, multi_class="ovr")
    assert float(rates.value) == pytest.approx(expected, abs=1e-12)
    rows = [predictions.groups == group for group in range(3)]
    groups = [
        roc_auc_score(predictions.labels[r], predictions.probabilities[r], multi_class="ovr") for r in rows
    ]  # fmt: skip
    assert rates.by_group == pytest.approx(groups, abs=1e-12)
    assert float(WorstGroupAuc().evaluate(predictions).value) == pytest.approx(min(groups), abs=1e-12)


def test_auc_interval_agrees_with_resampling_the_images():
    from fairquant_fair.scores import Auc

    predictions = scored_predictions(150)
    weights = image_weights(150, 300, np.random.default_rng(1))
    quick = Auc().weighted(predictions, weights)
    rows = [np.repeat(np.arange(150), row.astype(int)) for row in weights]
    slow = np.array([float(Auc().evaluate(predictions.take(row)).value) for row in rows])
    assert np.corrcoef(quick, slow)[0, 1] > 0.98
    assert quick.std() == pytest.approx(slow.std(), rel=0.1)


def test_calibration_and_brier_equal_a_plain_computation():
    from fairquant_fair.scores import BrierScore, ExpectedCalibrationError

    predictions = scored_predictions()
    fraction, labels = predictions.probabilities, predictions.labels
    brier = np.mean([((fraction[i] - np.eye(4)[labels[i]]) ** 2).sum() for i in range(len(labels))])
    assert float(BrierScore().evaluate(predictions).value) == pytest.approx(brier)
    confidence, right, error = fraction.max(1), fraction.argmax(1) == labels, 0.0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & (confidence < low + 0.1)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    rates = ExpectedCalibrationError(bins=10).evaluate(predictions)
    assert float(rates.value) == pytest.approx(error)
    member = predictions.take(np.flatnonzero(predictions.groups == 1))
    assert rates.by_group[1] == pytest.approx(float(ExpectedCalibrationError(bins=10).evaluate(member).value))


def test_a_group_without_images_has_no_auc_and_does_not_stop_the_audit():
    from fairquant_fair.scores import Auc, BrierScore, ExpectedCalibrationError, WorstGroupAuc

    predictions = scored_predictions()
    alone = replace(predictions, groups=np.where(predictions.groups == 2, 0, predictions.groups))
    for metric in (Auc(), WorstGroupAuc(), ExpectedCalibrationError(), BrierScore()):
        rates = evaluate(alone, [Component("m", metric)])["m"]
        assert np.isnan(rates.by_group["g2"])
        assert np.isfinite([rates.value, rates.low, rates.high]).all()
