"""The full-precision model is trained once for each data set, model, setting and seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import CLASSES, GROUPS, bound, small_network, small_split

from fairquant.recipe import read_recipe
from fairquant.roles import Splits
from fairquant.runs.baseline import baseline_key, train_baseline
from fairquant.runs.folder import Run


@pytest.fixture
def recipe(registry):
    return read_recipe(
        "quickstart", ["baseline.epochs=1", "baseline.augment=none", "baseline.batch_size=8"], registry=registry
    )


@pytest.fixture
def splits():
    return Splits(
        train=small_split(32), validation=small_split(8), test=small_split(8), class_names=CLASSES, group_names=GROUPS,
        attributes=("skin",), fingerprint="f",
    )  # fmt: skip


def test_the_second_run_takes_the_first_ones_weights(recipe, splits, plugins):
    epochs = []
    run = Run(
        recipe=recipe,
        folder=Path("run"),
        runs=Path("runs"),
        plugins=plugins,
        splits=splits,
        identity={},
        watch=lambda stage, values: epochs.append(stage),
    )
    first, second = bound(small_network(1)), bound(small_network(2))
    before = first.network[0].weight.detach().clone()
    train_baseline(recipe, run, splits, first)
    assert not torch.equal(first.network[0].weight, before)
    train_baseline(recipe, run, splits, second)
    assert epochs == ["baseline"]
    assert all(
        torch.equal(value, second.network.state_dict()[name]) for name, value in first.network.state_dict().items()
    )
    (folder,) = Path("runs/baselines").iterdir()
    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) == ["model.safetensors"]


def test_the_key_depends_on_data_model_settings_and_seed_alone(recipe, splits, registry):
    key = baseline_key(recipe, splits)
    for overrides in (["seed=9"], ["baseline.epochs=2"], ["model.name=resnet18"]):
        other = read_recipe("quickstart", [*overrides], registry=registry)
        assert baseline_key(replace(recipe, seed=other.seed, baseline=other.baseline, model=other.model), splits) != key
    assert baseline_key(recipe, replace(splits, fingerprint="g")) != key
    other = read_recipe("quickstart", ["method=uniform-2", "train.epochs=9"], registry=registry)
    assert baseline_key(replace(other, baseline=recipe.baseline, model=recipe.model), splits) == key


def test_other_weights_under_the_same_name_are_another_baseline(recipe, splits):
    with_weights = replace(recipe, model=replace(recipe.model, weights="w.pt"))
    Path("w.pt").write_bytes(b"one")
    one = baseline_key(with_weights, splits)
    Path("w.pt").write_bytes(b"two")
    assert baseline_key(with_weights, splits) != one


def test_a_model_that_was_trained_for_something_else_is_put_aside(recipe, splits, plugins, registry):
    def run_of(own) -> Run:
        return Run(recipe=own, folder=Path("run"), runs=Path("runs"), plugins=plugins, splits=splits, identity={})

    other = read_recipe(
        "quickstart",
        ["baseline.epochs=1", "baseline.augment=none", "baseline.batch_size=8", "seed=9"],
        registry=registry,
    )
    first, second = bound(small_network(1)), bound(small_network(1))
    train_baseline(recipe, run_of(recipe), splits, first)
    train_baseline(other, run_of(other), splits, second)
    files = [Path("runs/baselines") / baseline_key(each, splits) / "model.safetensors" for each in (recipe, other)]
    files[0].write_bytes(files[1].read_bytes())
    again = bound(small_network(1))
    train_baseline(recipe, run_of(recipe), splits, again)
    assert torch.equal(again.network[0].weight, first.network[0].weight)
    assert files[0].with_suffix(".broken").exists()
