"""The search section, checked line by line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe

HEAD = "dataset: {name: synthetic-lesions, images: 120}\nmodel: {name: resnet10t, image_size: 32}\nmethod: fq-qat-ptq\n"


SMALL = "baseline: {epochs: 1, batch_size: 32}\ncalibration: {images: 32, batch_size: 32}\ntracking: {mlflow: null}\n"


def write(text: str, name: str = "searched.yaml") -> str:
    Path(name).write_text(text)
    return name


BAD = {
    "  paramters: {}\n": "search.paramters: unknown key. Did you mean 'parameters'?",
    "  parameters: {budget.average_bits: 3}\n": "expected a list of values or {low: ..., high: ...}, got 3",
    "  parameters: {budget.average_bits: {low: 4, high: 1}}\n": "low must be below high, got 4 and 1",
    "  parameters: {budget.average_bits: {low: 0.0, high: 1.0, log: true}}\n": "a log scale needs low above 0",
    "  parameters: {budget.averge_bits: [1, 2]}\n": "1: budget.averge_bits: budget has no option 'averge_bits'. Did you mean 'average_bits'?",
    "  parameters: {budget.average_bits: {low: 1.0, high: 9.0}}\n": "9.0: budget.average_bits: must be at most 8, got 9.0",
    "  parameters: {allocator.name: [knapsack, minmax]}\n": "'minmax': allocator.name: no allocator is called 'minmax'. Did you mean 'minimax'?",
    "  parameters: {regularizers.loss-gap.weight: [1]}\n": "the recipe lists no regularizer 'loss-gap'. Listed: none",
    "  objectives: {acuracy: maximize}\n": "the recipe measures no 'acuracy'. Did you mean 'accuracy'?",
    "  objectives: {accuracy: up}\n": "must be maximize or minimize, got 'up'",
    "  constraints: {megabytes: 2}\n": "expected {at_least: ...} or {at_most: ...}, got 2",
    "  constraints: {megabytes: {at_most: baseline}}\n": "the baseline has no megabytes: give a number",
    "  constraints: {accuracy: {at_least: base - 1}}\n": "expected a number or 'baseline - 0.01', got 'base - 1'",
    "  sampler: tpee\n": "'tpee' is not one of tpe, random",
    "  sampler: grid\n  parameters: {budget.average_bits: {low: 1.0, high: 2.0}}\n": "a grid needs lists of values",
    "  pruner: median\n  objectives: {accuracy: maximize, bits: minimize}\n": "trials are pruned by one objective",
    "  trials: 0\n": "must be a whole number of at least 1, got 0",
}


GOOD = {
    "parameters": "  parameters: {budget.average_bits: [2, 3]}\n",
    "objectives": "  objectives: {accuracy: maximize}\n",
}


@pytest.mark.parametrize("lines", BAD)
def test_a_bad_section_is_reported_with_its_line(registry, lines):
    text = HEAD + SMALL + "search:\n" + lines + "".join(good for key, good in GOOD.items() if f"{key}:" not in lines)
    with pytest.raises(UserError) as caught:
        read_recipe(write(text), registry=registry, searching=True)
    assert BAD[lines] in str(caught.value)
    assert re.search(r"searched.yaml:\d+: search", str(caught.value)), str(caught.value)


def test_a_run_of_another_method_does_not_mind_the_section(registry):
    text = HEAD + SMALL + "regularizers: [{name: loss-gap}]\nsearch:\n" + GOOD["objectives"]
    text += "  parameters: {regularizers.loss-gap.weight: [0.1, 1.0]}\n"
    assert read_recipe(write(text), ["method=uniform-4", "metrics=[brier]"], registry=registry).method == "uniform-4"
    with pytest.raises(UserError, match="the recipe measures no 'accuracy'"):
        read_recipe(write(text), ["metrics=[brier]"], registry=registry, searching=True)
