"""Whom a run protects, and the metrics that choose an epoch, as read."""

from __future__ import annotations

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.selection import read_protect


@pytest.mark.parametrize(
    ("given", "whom"),
    [("groups", "groups"), ("none", "none"), ("cells", "cells"), (["MEL", "BCC", "MEL"], ("MEL", "BCC"))],
)
def test_a_word_or_a_list_of_classes(given, whom):
    problems = []
    assert read_protect(given, problems) == whom
    assert problems == []


@pytest.mark.parametrize("given", ["cell", [], [1], None, 3, {"MEL": 1}, True])
def test_anything_else_is_a_problem(given):
    problems = []
    assert read_protect(given, problems) == "groups"
    assert problems[0][0] == "protect"
    assert repr(given) in problems[0][1]


def test_a_metric_with_options_is_found_by_its_label_and_others_by_name(registry):
    overrides = [
        "metrics=[{name: sensitivity, classes: [melanoma]}, {name: accuracy}]", "train.select=sensitivity-melanoma",
        "baseline.early_stopping.metric=brier",
    ]  # fmt: skip
    recipe = read_recipe("quickstart", overrides, registry=registry)
    assert {each.label for each in recipe.selection} == {"sensitivity-melanoma", "brier"}
    assert next(each for each in recipe.selection if each.name == "sensitivity").value is recipe.metrics[0].value


def test_an_unknown_metric_is_named_with_its_key(registry):
    with pytest.raises(UserError) as caught:
        read_recipe("quickstart", ["train.select=acuracy", "baseline.early_stopping.metric=f1"], registry=registry)
    text = str(caught.value)
    assert "train.select: no metric is called 'acuracy'. Did you mean 'accuracy'?" in text
    assert "baseline.early_stopping.metric: no metric is called 'f1'." in text
