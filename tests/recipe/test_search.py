"""The search section, checked line by line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.constraints import Constraint
from fairquant.recipe.merge import read_overrides
from fairquant.recipe.search import Objective, override, read_search

HEAD = "dataset: {name: synthetic-lesions, images: 120}\nmodel: {name: resnet10t, image_size: 32}\nmethod: fq-qat-ptq\n"


SMALL = "baseline: {epochs: 1, batch_size: 32}\ncalibration: {images: 32, batch_size: 32}\ntracking: {mlflow: null}\n"


def write(text: str, name: str = "searched.yaml") -> str:
    Path(name).write_text(text)
    return name


BAD = {
    "  paramters: {}\n": "search.paramters: unknown key. Did you mean 'parameters'?",
    "  parameters: {budget.average_bits: 3}\n": "expected a list of values or {low: ..., high: ...}, got 3",
    "  parameters: {budget.average_bits: {low: 4, high: 1}}\n": "low must be below high, got 4 and 1",
    "  parameters: {budget.average_bits: {low: 1, high: 4, step: -1}}\n": "step must be above 0 and at most 3, got -1",
    "  parameters: {budget.average_bits: {low: 1, high: 4, step: 4}}\n": "step must be above 0 and at most 3, got 4",
    "  parameters: {'a=b': [1, 2]}\n": "search.parameters: 'a=b' is no key of a recipe",
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


SECTION = {
    "parameters": {
        "allocator.name": ["knapsack", "quantile"],
        "allocator.levels": {"choices": [[2, 4]], "when": {"allocator.name": "quantile"}},
        "train.epochs": {"low": 1, "high": 9, "step": 2},
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    },
    "objectives": {"accuracy": "maximize", "bits": "minimize"},
    "constraints": {"accuracy": {"at_least": "baseline - 0.01"}, "megabytes": {"at_most": 2}},
}  # fmt: skip


def test_a_section_becomes_parameters_objectives_and_constraints():
    problems: list = []
    search = read_search(SECTION, ("accuracy",), problems)
    assert not problems
    assert [parameter.path for parameter in search.parameters] == list(SECTION["parameters"])
    assert search.parameters[1].when == (("allocator.name", "quantile"),)
    assert [parameter.whole for parameter in search.parameters[2:]] == [True, False]
    assert search.objectives == (Objective("accuracy", "maximize"), Objective("bits", "minimize"))
    assert search.constraints == (Constraint("accuracy", True, -0.01, True), Constraint("megabytes", False, 2.0, False))
    assert (search.sampler, search.pruner, search.trials) == ("tpe", "none", 20)


@pytest.mark.parametrize(
    ("answer", "quantities"), [("PASS", ["limits-broken", "limits-undecided"]), ("CANNOT TELL", ["limits-broken"])]
)
def test_the_answer_to_the_limits_is_a_constraint(answer, quantities):
    problems: list = []
    search = read_search(SECTION | {"constraints": {"accept": answer}}, ("accuracy",), problems)
    assert not problems
    assert search.constraints == tuple(Constraint(quantity, False, 0.0, False) for quantity in quantities)
    assert [each.violation(0.0, None) > 0 for each in search.constraints] == [False] * len(quantities)
    assert [each.violation(1.0, None) > 0 for each in search.constraints] == [True] * len(quantities)


@pytest.mark.parametrize("answer", ["FAIL", {"at_least": 1}, True])
def test_no_other_answer_is_a_constraint(answer):
    problems: list = []
    assert read_search(SECTION | {"constraints": {"accept": answer}}, ("accuracy",), problems) is None
    text = f"expected PASS (every limit is kept) or CANNOT TELL (none is broken), got {answer!r}"
    assert problems == [("search.constraints.accept", text)]


def test_a_condition_must_name_a_parameter_before_it():
    problems: list = []
    section = {"parameters": {"a": {"choices": [1], "when": {"b": 2}}, "b": [2]}, "objectives": {"bits": "minimize"}}
    assert read_search(section, (), problems) is None
    assert problems == [("search.parameters.a.when", "'b' must be a parameter that comes before it")]


@pytest.mark.parametrize(
    ("constraint", "value", "baseline", "violation"),
    [
        (Constraint("megabytes", False, 2.0, False), 2.5, None, 0.5),
        (Constraint("accuracy", True, 0.7, False), 0.75, None, -0.05),
        (Constraint("accuracy", True, -0.01, True), 0.68, 0.7, 0.01),
    ],
)  # fmt: skip
def test_a_violation_is_above_zero_where_the_constraint_is_broken(constraint, value, baseline, violation):
    assert constraint.violation(value, baseline) == pytest.approx(violation)


def test_a_constraint_reads_as_a_sentence():
    assert Constraint("accuracy", True, -0.01, True).text() == "accuracy at least baseline - 0.01"
    assert Constraint("megabytes", False, 2.0, False).text() == "megabytes at most 2"


def test_an_override_reads_as_it_was_chosen():
    assert override("train.epochs", 3) == "train.epochs=3"
    assert read_overrides([override("allocator.levels", [2, 4]), override("a.b", "x: y"), override("c", True)])[0] == {
        "allocator": {"levels": [2, 4]}, "a": {"b": "x: y"}, "c": True,
    }  # fmt: skip
