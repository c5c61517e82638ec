"""The data of a recipe: a dataset that gives what is none, or would end the process, is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers.recipes import write_recipe

from fairquant.errors import PluginFailed
from fairquant.recipe import read_recipe
from fairquant.recipe.schema import Component
from fairquant.roles import Split, Splits
from fairquant.runs.data import load_data, missing_data
from fairquant.runs.folder import Quiet


@dataclass(frozen=True)
class Theirs:
    answer: Callable[[], object]

    def check(self):
        return self.answer()

    def load(self, context):
        return self.answer()


def recipe_of(registry, answer):
    recipe = read_recipe(write_recipe(), registry=registry)
    return replace(recipe, dataset=Component("theirs", Theirs(answer)))


@pytest.fixture
def splits(registry) -> Splits:
    return load_data(read_recipe(write_recipe(), registry=registry), Quiet(), registry)


def changed(split: Split, **changes: object) -> Split:
    return replace(split, **changes)


def test_what_a_dataset_loads_is_checked(registry, splits):
    train = splits.train
    for found, message in (
        (None, r"load\(\) returned NoneType, Splits are wanted"),
        (replace(splits, class_names=["a"]), "class_names are .'a'., a tuple of names"),
        (replace(splits, class_names=("a\nb", *splits.class_names[1:])), "class_names: .*controls a terminal"),
        (replace(splits, group_names=("a", "a")), "group_names are .*each once"),
        (replace(splits, fingerprint=None), "fingerprint is None"),
        (replace(splits, train=None), "train: it is NoneType, a Split is wanted"),
        (replace(splits, train=changed(train, labels=train.labels + 9)), "train: labels go from .* but there are 6 names"),
        (replace(splits, train=changed(train, groups=train.groups - 1)), "train: groups go from -1"),
        (replace(splits, test=changed(train, labels=train.labels.astype(np.float32))), "test: labels are float32"),
        (replace(splits, test=changed(train, labels=list(train.labels))), "test: labels are list"),
        (replace(splits, test=changed(train, ids=train.ids[1:])), "have different lengths"),
        (replace(splits, test=changed(train, ids=None)), "ids are NoneType"),
        (replace(splits, test=changed(train, images=[3] * len(train))), "an image is int"),
    ):  # fmt: skip
        with pytest.raises(PluginFailed, match=f"dataset 'theirs': .*{message}"):
            load_data(recipe_of(registry, lambda found=found: found), Quiet(), registry)
    assert load_data(recipe_of(registry, lambda: splits), Quiet(), registry) is splits


@pytest.mark.parametrize("found", [None, "missing", [3]])
def test_what_is_missing_is_a_list_of_sentences(registry, found):
    with pytest.raises(PluginFailed, match=r"dataset 'theirs': check\(\) returned .*a list of sentences is wanted"):
        missing_data(recipe_of(registry, lambda: found), registry)
