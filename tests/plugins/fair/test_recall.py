"""Rates of single classes and the worst of them, by scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fairquant_fair.recall import (
    OperatingPointSensitivity,
    OperatingPointSpecificity,
    PositivePredictiveValue,
    RecallLoss,
    Sensitivity,
    Specificity,
    WorstCellRecall,
    WorstClassRecall,
)
from helpers.predictions import random_predictions
from sklearn.metrics import precision_score, recall_score

from fairquant.audit.confusion import WeightedConfusion, confusion_of, image_weights
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.roles import OperatingPoint
from fairquant.roles.metric import lower_is_better

P = random_predictions(400, seed=3)


def binary_rates(p, number):
    truth, answer = p.labels == number, p.predicted == number
    return {
        "sensitivity": recall_score(truth, answer), "specificity": recall_score(~truth, ~answer), "ppv": precision_score(truth, answer),
    }  # fmt: skip


RATES = {"sensitivity": Sensitivity, "specificity": Specificity, "ppv": PositivePredictiveValue}


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_is_that_of_the_class_against_all_others(rate):
    values = RATES[rate](("c2",)).evaluate(confusion_of(P))
    assert float(values.value) == pytest.approx(binary_rates(P, 2)[rate])
    for g in range(3):
        group = P.take(np.flatnonzero(P.groups == g))
        assert float(values.by_group[g]) == pytest.approx(binary_rates(group, 2)[rate])
    several = RATES[rate](("c0", "c3")).evaluate(confusion_of(P))
    assert float(several.value) == pytest.approx(np.mean([binary_rates(P, number)[rate] for number in (0, 3)]))
    everyone = RATES[rate]().evaluate(confusion_of(P))
    assert float(everyone.value) == pytest.approx(np.mean([binary_rates(P, number)[rate] for number in range(4)]))


def test_classes_without_images_do_not_count_and_unknown_ones_are_refused():
    few = P.take(np.flatnonzero(P.labels != 1))
    value = float(Sensitivity().evaluate(confusion_of(few)).value)
    assert value == pytest.approx(recall_score(few.labels, few.predicted, labels=[0, 2, 3], average="macro"))
    assert np.isnan(float(Sensitivity(("c1",)).evaluate(confusion_of(few)).value))
    with pytest.raises(
        UserError, match=r"the data have no class 'c9'. Did you mean 'c0'\?|the data have no class 'c9'"
    ):
        Sensitivity(("c9",)).evaluate(confusion_of(P))


def test_results_name_the_classes():
    assert Component("sensitivity", Sensitivity(("MEL",))).label == "sensitivity-mel"
    assert Component("ppv", PositivePredictiveValue(("Basal Cell", "NV"))).label == "ppv-basal-cell-nv"
    assert Component("specificity", Specificity()).label == "specificity"


@pytest.mark.parametrize("metric", [Sensitivity, Specificity])
def test_what_is_counted_gives_the_metric(metric):
    counted, right = metric(("c2",)).counted(P)
    assert (counted & right).sum() / counted.sum() == pytest.approx(
        float(metric(("c2",)).evaluate(confusion_of(P)).value)
    )
    assert metric().counted(P) is None
    assert metric(("c1", "c2")).counted(P) is None


def recalls(p, small=1):
    """(class, group) -> recall, where there are enough images."""
    rows = {(c, g): (p.labels == c) & (p.groups == g) for c in range(4) for g in range(3)}
    return {cell: (p.predicted[row] == cell[0]).mean() for cell, row in rows.items() if row.sum() >= small}


def test_the_worst_class_and_the_worst_cell_by_hand():
    few = P.take(np.flatnonzero((P.labels != 3) | (np.arange(400) % 10 == 0)))
    by_class = recall_score(few.labels, few.predicted, average=None)
    worst = WorstClassRecall().evaluate(confusion_of(few))
    assert (float(worst.value), int(worst.skipped)) == (pytest.approx(by_class.min()), 0)
    without = WorstClassRecall(min_support=30).evaluate(confusion_of(few))
    assert (float(without.value), int(without.skipped)) == (pytest.approx(by_class[:3].min()), 1)
    cells, large = recalls(few), recalls(few, 10)
    cell = WorstCellRecall(min_support=10).evaluate(confusion_of(few))
    assert (float(cell.value), int(cell.skipped)) == (pytest.approx(min(large.values())), 12 - len(large))
    assert len(large) < 12
    for g in range(3):
        assert float(worst.by_group[g]) == pytest.approx(min(v for (_, group), v in cells.items() if group == g))
        assert float(cell.by_group[g]) == pytest.approx(min(v for (_, group), v in large.items() if group == g))


def test_the_loss_of_recall_is_that_of_the_cell_that_lost_most():
    before = replace(random_predictions(400, seed=9), labels=P.labels, groups=P.groups)
    both = replace(P, reference=before)
    was, now = recalls(before, 10), recalls(P, 10)
    losses = {cell: was[cell] - now[cell] for cell in now}
    values = RecallLoss().evaluate(confusion_of(both))
    assert float(values.value) == pytest.approx(max(losses.values()))
    for g in range(3):
        assert float(values.by_group[g]) == pytest.approx(max(v for (_, group), v in losses.items() if group == g))
    assert float(RecallLoss().evaluate(confusion_of(replace(P, reference=P))).value) == 0
    assert float(RecallLoss().evaluate(confusion_of(P)).value) == 0  # the full-precision model itself
    assert lower_is_better(RecallLoss())
    assert not lower_is_better(WorstCellRecall())


@pytest.mark.parametrize(
    "metric",
    [
        Sensitivity(("c1",)),
        Specificity(),
        PositivePredictiveValue(("c1", "c2")),
        WorstClassRecall(),
        WorstCellRecall(),
        RecallLoss(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_under_weights_every_rate_is_that_of_the_drawn_images(metric):
    both = replace(P, reference=replace(random_predictions(400, seed=9), labels=P.labels, groups=P.groups))
    weights = image_weights(400, 5, np.random.default_rng(0))
    values = metric.evaluate(WeightedConfusion(both, weights)).value
    for row, value in zip(weights, values, strict=True):
        drawn = both.take(np.repeat(np.arange(400), row.astype(int)))
        assert float(value) == pytest.approx(float(metric.evaluate(confusion_of(drawn)).value), nan_ok=True)


@pytest.mark.parametrize(
    "metric", [OperatingPointSensitivity(), OperatingPointSpecificity()], ids=lambda m: type(m).__name__
)
def test_rates_at_the_operating_point(metric):
    pointed = replace(P, operating=OperatingPoint((1, 2), 0.6))
    truth = np.isin(P.labels, [1, 2])
    answer = P.probabilities[:, [1, 2]].sum(1) >= 0.6
    side = truth if metric.positive else ~truth
    expected = (answer == truth)[side].mean()
    values = metric.evaluate(pointed)
    assert float(values.value) == pytest.approx(expected)
    for g in range(3):
        rows = side & (P.groups == g)
        assert float(values.by_group[g]) == pytest.approx((answer == truth)[rows].mean())
    weights = image_weights(400, 3, np.random.default_rng(1))
    drawn = [pointed.take(np.repeat(np.arange(400), row.astype(int))) for row in weights]
    assert metric.weighted(pointed, weights) == pytest.approx([float(metric.evaluate(each).value) for each in drawn])
    assert np.isnan(float(metric.evaluate(P).value))  # no operating point
    assert metric.counted(P) is None
