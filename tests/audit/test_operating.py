"""Thresholds from validation, and what they do on test."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.predictions import random_predictions, scored_predictions
from sklearn.metrics import roc_auc_score

from fairquant.audit.cells import DECIDED, cells_of
from fairquant.audit.operating import choose_threshold, class_numbers, decisions_of
from fairquant.audit.roc import partial_area
from fairquant.errors import UserError
from fairquant.recipe.sections import OperatingPointSettings
from fairquant.roles import OperatingPoint
from fairquant.runs.operating import at_operating_points, same_points


def settings(**changes):
    return OperatingPointSettings(**{"classes": ("c1", "c3"), "sensitivity": 0.9} | changes)


def reached(p, classes, threshold):
    """Sensitivity and specificity at a threshold, image by image."""
    positive = np.isin(p.labels, classes)
    decided = p.probabilities[:, list(classes)].sum(1) >= threshold
    return decided[positive].mean(), (~decided[~positive]).mean()


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_highest_with_the_sensitivity_among_all(wanted, seed):
    p = scored_predictions(seed=seed)  # its scores have ties
    point = choose_threshold(p, settings(sensitivity=wanted))
    assert point.classes == (1, 3)
    assert reached(p, (1, 3), point.threshold)[0] >= wanted
    higher = [t for t in np.unique(p.score((1, 3))) if t > point.threshold]
    assert all(reached(p, (1, 3), t)[0] < wanted for t in higher)
    assert point.threshold in p.score((1, 3))


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_lowest_with_the_specificity_among_all(wanted, seed):
    p = scored_predictions(seed=seed)
    point = choose_threshold(p, settings(sensitivity=None, specificity=wanted))
    assert reached(p, (1, 3), point.threshold)[1] >= wanted
    assert reached(p, (1, 3), np.nextafter(point.threshold, 0))[1] < wanted


def test_a_sensitivity_that_is_a_fraction_of_the_images_needs_no_more_of_them():
    """.7 of 10 positives are 7, whatever floating point makes of .7 * 10."""
    p = random_predictions(200, classes=2, groups=1)
    p = p.take(np.r_[np.flatnonzero(p.labels == 1)[:10], np.flatnonzero(p.labels == 0)[:10]])
    point = choose_threshold(p, settings(classes=("c1",), sensitivity=0.7))
    assert point.threshold == np.sort(p.score((1,))[p.labels == 1])[::-1][6]


def test_impossible_classes_are_all_named():
    names = ("MEL", "NV")
    with pytest.raises(UserError) as caught:
        class_numbers(settings(classes=("MELL", "wart")), names)
    assert list(caught.value.problems) == [
        "operating_point.classes: the data have no class 'MELL'. Did you mean 'MEL'? Classes: MEL, NV",
        "operating_point.classes: the data have no class 'wart'. Classes: MEL, NV",
    ]
    with pytest.raises(UserError, match=r"operating_point\.classes: every class is positive: leave at least one out"):
        class_numbers(settings(classes=("NV", "MEL")), names)
    assert class_numbers(settings(classes=("NV", "NV")), names) == (1,)


@pytest.mark.parametrize(
    ("target", "keep", "text"),
    [
        ({"sensitivity": 0.9}, [0, 2], "operating_point: validation has no image of c1, c3 to choose a threshold on"),
        (
            {"sensitivity": None, "specificity": 0.9},
            [1, 3],
            "operating_point: validation has no image of other classes",
        ),
    ],
)
def test_validation_needs_images_of_the_side_that_is_wanted(target, keep, text):
    p = random_predictions(100)
    with pytest.raises(UserError, match=text):
        choose_threshold(p.take(np.flatnonzero(np.isin(p.labels, keep))), settings(**target))


def test_test_images_have_no_say_in_the_threshold():
    validation = scored_predictions(seed=1), scored_predictions(seed=2)
    recipe = SimpleNamespace(operating_point=settings())
    chosen = at_operating_points(recipe, *validation)
    assert chosen.before.operating != chosen.after.operating  # each model has its own
    expected = [choose_threshold(each, settings()) for each in validation]
    for seed in (3, 4):
        test = same_points(chosen, scored_predictions(seed=seed), scored_predictions(seed=seed + 9))
        assert [test.before.operating, test.after.operating] == expected
    assert at_operating_points(SimpleNamespace(operating_point=None), *validation).after.operating is None


@pytest.fixture
def two():
    """Two models of the same images at thresholds of their own, groups of two attributes."""
    before, after = scored_predictions(seed=1, groups=4), scored_predictions(seed=2, groups=4)
    names = ("f x old", "f x young", "m x old", "m x young")
    after = replace(after, labels=before.labels, groups=before.groups)
    points = OperatingPoint((1, 3), 0.45), OperatingPoint((1, 3), 0.55)
    return tuple(
        replace(each, group_names=names, operating=point) for each, point in zip((before, after), points, strict=True)
    )


def test_rates_at_the_thresholds_by_counting(two):
    before, after = two
    made = decisions_of(before, after, settings(), cells_of(after, before, ("sex", "age")))
    assert (made.classes, made.target, made.thresholds) == (("c1", "c3"), "sensitivity 0.9", (0.45, 0.55))
    scopes = {"all images": range(4), "f x old": [0], "sex: m": [2, 3], "age: young": [1, 3]}
    for scope, groups in scopes.items():
        rows = np.flatnonzero(np.isin(before.groups, list(groups)))
        rates = {cell.rate: cell for cell in made.rates if cell.scope == scope}
        for model, which in ((before, "before"), (after, "after")):
            expected = reached(model.take(rows), (1, 3), model.operating.threshold)
            found = [getattr(rates[rate], which).value for rate in DECIDED]
            assert found == pytest.approx(expected)
        change = rates[DECIDED[0]].change
        assert change[0] == pytest.approx(rates[DECIDED[0]].after.value - rates[DECIDED[0]].before.value)
        assert change[1] < change[0] < change[2]


@pytest.mark.parametrize(
    "target", [{"sensitivity": 0.9}, {"sensitivity": None, "specificity": 0.9}], ids=["sensitivity", "specificity"]
)
def test_areas_are_of_the_score_of_the_positive_classes(two, target):
    before, after = two
    made = decisions_of(before, after, settings(partial_from=0.7, **target), cells_of(after, before))
    positive = np.isin(before.labels, (1, 3))
    for scope, rows in {"all images": np.ones(400, bool), "m x old": before.groups == 2}.items():
        areas = {each.kind: each for each in made.areas if each.scope == scope}
        for model, which in ((before, "before"), (after, "after")):
            score = model.score((1, 3))[rows]
            assert getattr(areas["auc"], which)[0] == pytest.approx(roc_auc_score(positive[rows], score))
            region = {"sensitivity_from" if target["sensitivity"] else "specificity_from": 0.7}
            assert getattr(areas["partial auc"], which)[0] == pytest.approx(
                partial_area(score, positive[rows], **region).value
            )
        assert (areas["auc"].positives, areas["auc"].negatives) == (positive[rows].sum(), (~positive[rows]).sum())
        value, low, high = areas["auc"].change
        assert value == pytest.approx(areas["auc"].after[0] - areas["auc"].before[0])
        assert low < value < high
