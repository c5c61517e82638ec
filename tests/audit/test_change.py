"""What compression changed on the same images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import random_predictions

from fairquant.audit.change import change_against, group_intervals
from fairquant.audit.evaluate import evaluate
from fairquant.errors import UserError


def test_change_against_the_baseline_by_hand():
    before, after = random_predictions(seed=8), random_predictions(seed=9)
    after = replace(after, labels=before.labels, groups=before.groups)
    changes = change_against(after, before)
    was, now = before.predicted == before.labels, after.predicted == after.labels
    assert changes["accuracy"].value == pytest.approx(now.mean() - was.mean())
    assert changes["flips"].value == pytest.approx((before.predicted != after.predicted).mean())
    assert changes["harmful_flips"].value == pytest.approx((was & ~now).mean())
    for g, name in enumerate(before.group_names):
        member = before.groups == g
        assert changes["accuracy"].by_group[name]["value"] == pytest.approx(now[member].mean() - was[member].mean())
        assert changes["harmful_flips"].by_group[name]["value"] == pytest.approx((was & ~now)[member].mean())
        assert (
            changes["flips"].by_group[name]["low"]
            <= changes["flips"].by_group[name]["value"]
            <= changes["flips"].by_group[name]["high"]
        )
    same = change_against(before, before)
    assert same["accuracy"].value == same["flips"].value == 0
    z2 = 1.959963984540054**2  # nothing changed on 400 images: that is no proof that nothing ever does
    assert (same["accuracy"].low, same["accuracy"].high) == pytest.approx((-z2 / (400 + z2), z2 / (400 + z2)))
    assert same["flips"].low == 0
    assert same["flips"].high == pytest.approx(z2 / (400 + z2))


def test_a_group_with_one_image_or_none_has_a_value_or_none_but_never_fails(metrics):
    p = random_predictions(count=100, groups=2)
    p = replace(p, groups=np.where(np.arange(100) == 0, 1, 0), group_names=("many", "one", "none"))
    values = evaluate(p, metrics)
    assert values["accuracy"].by_group["one"] in (0.0, 1.0)
    assert math.isnan(values["accuracy"].by_group["none"])
    assert values["worst-group-accuracy"].skipped == 1
    low, high = group_intervals(p)["many"][1:]
    assert low < high


def test_predictions_of_other_images_and_no_images_are_refused():
    with pytest.raises(UserError, match="not of the same images"):
        change_against(random_predictions(seed=1), random_predictions(seed=2))
    with pytest.raises(UserError, match="no images to audit"):
        evaluate(random_predictions(5).take(np.arange(0)), [])
