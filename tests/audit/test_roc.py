"""ROC curves: areas by scikit-learn and by pairs, DeLong's intervals by pairs, partial areas by integration and bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from fairquant.audit.roc import area, partial_area, roc_curve


def scores(images=120, seed=0, digits=1, shift=1.0):
    """Overlapping scores with ties, and who is positive."""
    draw = np.random.default_rng(seed)
    positive = draw.random(images) < 0.4
    return np.round(draw.normal(size=images) + shift * positive, digits), positive


def pairs(values, positive):
    """1 where the positive image has the higher score, 1/2 where both are equal [P, Q]."""
    high, low = values[positive][:, None], values[~positive][None]
    return (high > low) + 0.5 * (high == low)


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_and_its_area_are_those_of_scikit_learn(seed):
    values, positive = scores(seed=seed)
    false, true = roc_curve(values, positive)
    expected = sklearn_curve(positive, values, drop_intermediate=False)
    assert false == pytest.approx(expected[0])
    assert true == pytest.approx(expected[1])
    assert area(values, positive).value == pytest.approx(roc_auc_score(positive, values))


def test_the_influence_is_that_of_all_pairs():
    values, positive = scores()
    found, table = area(values, positive), pairs(values, positive)
    expected_positive = [np.mean([(a > b) + 0.5 * (a == b) for b in values[~positive]]) for a in values[positive]]
    expected_negative = [np.mean([(a > b) + 0.5 * (a == b) for a in values[positive]]) for b in values[~positive]]
    assert found.positive == pytest.approx(np.array(expected_positive))
    assert found.negative == pytest.approx(np.array(expected_negative))
    assert found.value == pytest.approx(table.mean())


def delong(first, second, positive):
    """Difference of areas and its standard error, from the covariances of the structural components (DeLong et al., 1988)."""
    tables = [pairs(each, positive) for each in (first, second)]
    by_positive = np.cov([table.mean(1) for table in tables]) / positive.sum()
    by_negative = np.cov([table.mean(0) for table in tables]) / (~positive).sum()
    covariance = by_positive + by_negative
    contrast = np.array([1, -1])
    return (
        tables[0].mean() - tables[1].mean(),
        float(np.sqrt(contrast @ covariance @ contrast)),
        np.sqrt(covariance[0, 0]),
    )


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_are_delongs(level):
    first, positive = scores(200, seed=1)
    second = first + np.round(np.random.default_rng(2).normal(size=200), 1)
    value, error, own = delong(first, second, positive)
    z = norm.isf((1 - level) / 2)
    change = area(first, positive) - area(second, positive)
    assert change.value == pytest.approx(value)
    assert change.interval(level, low=-1.0) == pytest.approx((value - z * error, value + z * error))
    alone = area(first, positive)
    assert alone.interval(level) == pytest.approx((alone.value - z * own, alone.value + z * own))


def test_an_interval_is_cut_at_its_ends_and_needs_two_images_a_side():
    perfect = area(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]))
    assert (perfect.value, *perfect.interval()) == (
        1.0,
        pytest.approx(0.05**0.5),
        1.0,
    )  # what two images can leave unseen
    assert np.isnan(area(np.array([0.0, 1.0, 2.0]), np.array([False, False, True])).interval()).all()
    nobody = area(np.array([1.0, 2.0]), np.array([False, False]))
    assert np.isnan(nobody.value)


def integrate(false, true, width):
    """Area under the curve's straight lines up to a false positive rate, over the width."""
    last = np.append(np.flatnonzero(np.diff(false) > 0), len(false) - 1)  # a vertical piece counts with its upper end
    first = np.append(0, np.flatnonzero(np.diff(false) > 0) + 1)
    steps, total = false[last], 0.0
    for place, (a, b) in enumerate(zip(steps[:-1], np.minimum(steps[1:], width), strict=True)):
        if a < width:
            slope = (true[first[place + 1]] - true[last[place]]) / (steps[place + 1] - a)
            total += (b - a) * (true[last[place]] + slope * (b - a) / 2)
    return total / width


@pytest.mark.parametrize("start", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_partial_areas_are_integrals_of_the_curve(start, seed):
    """Scores without ties: the curve is a staircase, whose integral over any region is exact."""
    values, positive = scores(seed=seed, digits=12)
    false, true = roc_curve(values, positive)
    assert partial_area(values, positive, specificity_from=start).value == pytest.approx(
        integrate(false, true, 1 - start)
    )
    # the region of high sensitivities: specificity over sensitivity, the same curve seen from the other side
    turned = integrate(1 - true[::-1], 1 - false[::-1], 1 - start)
    assert partial_area(values, positive, sensitivity_from=start).value == pytest.approx(turned)


def test_a_partial_area_of_everything_is_the_area_and_of_a_perfect_score_1():
    values, positive = scores(seed=3)
    assert partial_area(values, positive, sensitivity_from=0.0).value == pytest.approx(area(values, positive).value)
    for region in ({"specificity_from": 0.9}, {"sensitivity_from": 0.9}):
        assert partial_area(positive.astype(float), positive, **region).value == pytest.approx(1.0)
        assert partial_area(-positive.astype(float), positive, **region).value == pytest.approx(0.0)


@pytest.mark.parametrize(
    "region", [{"specificity_from": 0.8}, {"sensitivity_from": 0.8}, {"specificity_from": 0.5}], ids=str
)
def test_the_error_of_a_change_of_a_partial_area_is_that_of_a_bootstrap(region):
    draw = np.random.default_rng(5)
    positive = np.arange(600) < 250
    first = draw.normal(size=600) + positive
    second = first + 0.7 * draw.normal(size=600)
    change = partial_area(first, positive, **region) - partial_area(second, positive, **region)
    low, high = change.interval(low=-1.0)
    values = []
    for _ in range(1500):
        rows = np.r_[draw.integers(0, 250, 250), draw.integers(250, 600, 350)]
        values.append(
            partial_area(first[rows], positive[rows], **region).value
            - partial_area(second[rows], positive[rows], **region).value
        )
    assert (high - low) / (2 * norm.isf(0.025)) == pytest.approx(np.std(values), rel=0.25)
    assert low < change.value < high


@pytest.mark.parametrize("region", [{}, {"specificity_from": 0.8}, {"sensitivity_from": 0.8}], ids=str)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(region):
    draw = np.random.default_rng(6)
    many = draw.normal(size=400_000) + (np.arange(400_000) < 200_000)
    truth = partial_area(many, np.arange(400_000) < 200_000, **region).value
    covered = 0
    for _ in range(400):
        positive = np.arange(200) < 80
        low, high = partial_area(draw.normal(size=200) + positive, positive, **region).interval()
        covered += low <= truth <= high
    assert 0.90 <= covered / 400 <= 0.985


def test_higher_scores_by_any_rule_that_keeps_their_order_change_nothing():
    values, positive = scores(seed=7)
    for region in ({}, {"specificity_from": 0.7}, {"sensitivity_from": 0.7}):
        before, after = (partial_area(each, positive, **region) for each in (values, np.exp(3 * values) - 5))
        assert (before - after).value == pytest.approx(0)
        assert (before - after).positive == pytest.approx(np.zeros(positive.sum()))
