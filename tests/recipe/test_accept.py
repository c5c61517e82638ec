"""The sections accept, operating_point, protect and train.select: what is read, what is refused, and the way back."""

from __future__ import annotations

import pytest
from helpers.metrics import registry_with_doubt

from fairquant.errors import UserError
from fairquant.recipe import read_recipe, recipe_from
from fairquant.recipe.accept import read_accept
from fairquant.recipe.limits import DEFAULT, DEFAULT_AT_OPERATING_POINT

GOOD = {"dataset": {"name": "synthetic-lesions"}}
POINT = {"classes": ["melanoma"], "sensitivity": 0.9}


@pytest.fixture(scope="module")
def strange():
    return registry_with_doubt()


def limits(registry, section, operating=False):
    problems: list = []
    found = read_accept(section, operating, registry, problems)
    assert problems == []
    return [(each.name, each.kind, each.bound, each.by_group) for each in found]


@pytest.mark.parametrize(
    ("section", "problems"),
    [
        ([1], [("accept", "expected a mapping, such as {sensitivity: {classes: [MEL], by: group, loss_at_most: 0.05}}, got [1]")]),
        ({"accuracy": 0.02}, [("accept.accuracy", "expected a bound, such as {loss_at_most: 0.02}, got 0.02")]),
        ({"accuracy": [{"at_least": 0.5}, 0.02]}, [("accept.accuracy[1]", "expected a bound, such as {loss_at_most: 0.02}, got 0.02")]),
        ({"accuracy": {"loss_at_most": "little"}}, [("accept.accuracy.loss_at_most", "expected a number within 0..1, got 'little'")]),
        ({"accuracy": {"loss_at_most": True}}, [("accept.accuracy.loss_at_most", "expected a number within 0..1, got True")]),
        ({"accuracy": {"loss_at_most": 1.5}}, [("accept.accuracy.loss_at_most", "expected a number within 0..1, got 1.5")]),
        ({"accuracy": {"loss_at_most": -0.1}}, [("accept.accuracy.loss_at_most", "expected a number within 0..1, got -0.1")]),
        ({"accuracy": {"loss_at_most": 0}}, [("accept.accuracy.loss_at_most", "no number of images can show that nothing changed: give a limit above 0")]),
        ({"accuracy": {}}, [("accept.accuracy", "needs a bound: one of loss_at_most, rise_at_most, at_least, at_most")]),
        ({"accuracy": {"by": "sex", "at_least": 0.5}}, [("accept.accuracy.by", "'sex' is not one of all, group.")]),
        ({"accuracy": {"by": "groups", "at_least": 0.5}}, [("accept.accuracy.by", "'groups' is not one of all, group. Did you mean 'group'?")]),
        ({"accuracy": {"loss_atmost": 0.5, "at_least": 0.1}}, [("accept.accuracy.loss_atmost", "unknown key. Did you mean 'loss_at_most'? Keys: by, loss_at_most, rise_at_most, at_least, at_most")]),
        ({"accuracy": {"rise_at_most": 0.1}}, [("accept.accuracy.rise_at_most", "accuracy is better higher: give loss_at_most")]),
        ({"accuracy": {"at_most": 0.1}}, [("accept.accuracy.at_most", "accuracy is better higher: give at_least")]),
        ({"ece": {"loss_at_most": 0.1}}, [("accept.ece.loss_at_most", "ece is better lower: give rise_at_most")]),
        ({"doubt": {"at_least": 0.1}}, [("accept.doubt.at_least", "doubt is better lower: give at_most")]),
        ({"accuracy-gap": {"by": "group", "rise_at_most": 0.1}}, [("accept.accuracy-gap.by", "accuracy-gap is a gap between groups: it has no value within one")]),
        ({"doubt": {"power": "much", "at_most": 0.1}}, [("accept.doubt.power", "expected a number, got 'much'")]),
        ({"file": {"at_most": "big"}}, [("accept.file", "expected {at_most: SIZE} with one of MB, kB, MiB, KiB, B, such as 1MB, got {'at_most': 'big'}")]),
        ({"file": {"at_most": 1000}}, [("accept.file", "expected {at_most: SIZE} with one of MB, kB, MiB, KiB, B, such as 1MB, got {'at_most': 1000}")]),
        ({"file": {"at_least": "1MB"}}, [("accept.file", "expected {at_most: SIZE} with one of MB, kB, MiB, KiB, B, such as 1MB, got {'at_least': '1MB'}")]),
        ({"operating-point-sensitivity": {"loss_at_most": 0.1}}, [("accept.operating-point-sensitivity", "needs the section operating_point, which chooses the threshold")]),
        ({"worst-group-accuracy": {"at_least": -1}}, [("accept.worst-group-accuracy.at_least", "expected a number within 0..1, got -1")]),
        ({"accuracy-gap": {"at_most": 5}}, [("accept.accuracy-gap.at_most", "expected a number within 0..1, got 5")]),
        ({"ece": {"at_most": 1}}, [("accept.ece.at_most", "1 can never be broken: give a limit that can")]),
        ({"accuracy": {"at_least": 0}}, [("accept.accuracy.at_least", "0 can never be broken: give a limit that can")]),
        ({"accuracy": {"at_least": 2}, "ece": {}}, [
            ("accept.accuracy.at_least", "expected a number within 0..1, got 2"), ("accept.ece", "needs a bound: one of loss_at_most, rise_at_most, at_least, at_most"),
        ]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported_with_its_key(strange, section, problems):
    found: list = []
    assert len(read_accept(section, False, strange, found)) <= 1
    assert found == problems


def test_an_unknown_metric_is_named_with_what_is_known(strange):
    found: list = []
    read_accept({"sensitivty": {"loss_at_most": 0.1}}, False, strange, found)
    ((key, text),) = found
    assert key == "accept.sensitivty"
    assert text.startswith("no metric is called 'sensitivty'. Did you mean 'sensitivity'? Known: accuracy, ")
    assert text.endswith(", file")


def test_a_mistake_on_the_command_line_or_in_the_file_has_its_place(registry, tmp_path):
    (tmp_path / "bad.yaml").write_text("dataset: {name: synthetic-lesions}\naccept:\n  accuracy: {loss_at_most: 0}\n")
    with pytest.raises(UserError, match=r"bad.yaml:3: accept.accuracy.loss_at_most: no number of images"):
        read_recipe("bad.yaml", registry=registry)
    with pytest.raises(
        UserError, match=r"command line: accept.accuracy.loss_at_most: expected a number within 0..1, got 3"
    ):
        recipe_from(GOOD, ["accept.accuracy.loss_at_most=3"], registry=registry)


@pytest.mark.parametrize("section", [None, {}])
def test_without_limits_the_default_ones_hold(registry, section):
    assert limits(registry, section) == [("sensitivity", "loss", 0.05, True), ("accuracy", "loss", 0.02, True)]
    assert limits(registry, section, operating=True) == [
        ("sensitivity", "loss", 0.05, True), ("accuracy", "loss", 0.02, True), ("operating-point-sensitivity", "loss", 0.05, True),
        ("operating-point-specificity", "loss", 0.05, False),
    ]  # fmt: skip
    recipe = recipe_from(GOOD if section is None else GOOD | {"accept": section}, registry=registry)
    assert recipe.to_dict()["accept"] == DEFAULT
    pointed = recipe_from(GOOD | {"operating_point": POINT}, registry=registry)
    assert pointed.to_dict()["accept"] == DEFAULT | DEFAULT_AT_OPERATING_POINT


def test_several_limits_of_one_metric_and_several_bounds_of_one_limit(strange):
    section = {
        "sensitivity": [{"classes": ["MEL"], "loss_at_most": 0.02}, {"by": "group", "loss_at_most": 0.1, "at_least": 0.6}],
        "doubt": {"power": 2.0, "rise_at_most": 0.05, "at_most": 0.3}, "file": {"at_most": "2.5MB"},
    }  # fmt: skip
    assert limits(strange, section) == [
        ("sensitivity", "loss", 0.02, False), ("sensitivity", "loss", 0.1, True), ("sensitivity", "at least", 0.6, True),
        ("doubt", "rise", 0.05, False), ("doubt", "at most", 0.3, False), ("file", "at most", 2.5e6, False),
    ]  # fmt: skip
    recipe = recipe_from(GOOD | {"accept": section}, registry=strange)
    first = recipe.accept[0].metric
    assert first.value.classes == ("MEL",)
    assert recipe.accept[3].metric.value.power == 2.0
    again = recipe.to_dict()
    assert again["accept"] == section
    assert recipe_from(again, registry=strange).digest() == recipe.digest()
    other = recipe_from(GOOD | {"accept": section | {"file": {"at_most": "2MB"}}}, registry=strange)
    assert other.digest() != recipe.digest()


def test_an_operating_point_needs_classes_and_one_target(registry):
    for point, text in (
        ({"classes": ["melanoma"]}, "operating_point: give sensitivity or specificity, one of the two"),
        (POINT | {"specificity": 0.9}, "operating_point: give sensitivity or specificity, one of the two"),
        ({"sensitivity": 0.9}, "operating_point.classes: operating_point 'operating_point' needs this option|needs this option"),
        (POINT | {"classes": []}, "operating_point.classes: "), (POINT | {"sensitivity": 0}, "operating_point.sensitivity: must be greater than 0"),
        (POINT | {"sensitivity": 1.1}, "operating_point.sensitivity: must be at most 1"),
        (POINT | {"partial_from": 1.0}, "operating_point.partial_from: must be less than 1"),
        (POINT | {"class": ["x"]}, r"operating_point.class: operating_point has no option 'class'\. Did you mean 'classes'\?"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            recipe_from(GOOD | {"operating_point": point}, registry=registry)
    recipe = recipe_from(GOOD | {"operating_point": POINT}, registry=registry)
    assert recipe.to_dict()["operating_point"] == {
        "classes": ["melanoma"], "sensitivity": 0.9, "specificity": None, "partial_from": 0.8,
    }  # fmt: skip
    assert recipe_from(recipe.to_dict(), registry=registry).digest() == recipe.digest()
    assert recipe_from(GOOD, registry=registry).to_dict()["operating_point"] is None


@pytest.mark.parametrize("whom", ["groups", "classes", "cells", "none", ["melanoma", "nevus"]])
def test_whom_to_protect_comes_back(registry, whom):
    recipe = recipe_from(GOOD | {"protect": whom}, registry=registry)
    assert recipe.to_dict()["protect"] == whom
    assert recipe_from(recipe.to_dict(), registry=registry).protect == recipe.protect


@pytest.mark.parametrize("whom", ["everyone", 3, [], [1]])
def test_nobody_else_can_be_protected(registry, whom):
    with pytest.raises(UserError, match=r"recipe: protect: "):
        recipe_from(GOOD | {"protect": whom}, registry=registry)


def test_any_metric_selects_by_label(strange):
    recipe = recipe_from(
        GOOD | {"metrics": ["accuracy", {"name": "doubt", "power": 2.0}], "train": {"select": "doubt"},
                "baseline": {"early_stopping": {"metric": "recall-loss", "patience": 3}}},
        registry=strange,
    )  # fmt: skip
    assert {component.label for component in recipe.selection} == {"doubt", "recall-loss"}
    assert next(each.value.power for each in recipe.selection if each.label == "doubt") == 2.0  # as the recipe lists it
    with pytest.raises(UserError, match=r"train.select: no metric is called 'doubts'. Did you mean 'doubt'\?"):
        recipe_from(GOOD | {"train": {"select": "doubts"}}, registry=strange)


def test_selecting_at_an_operating_point_needs_one(registry):
    selected = GOOD | {"train": {"select": "operating-point-sensitivity"}}
    recipe = recipe_from(selected | {"operating_point": POINT}, registry=registry)
    assert [component.label for component in recipe.selection if component.label.startswith("operating")] == [
        "operating-point-sensitivity"
    ]
    for unknown in (
        {"select": "operating-point-sensitivity"},
        {"early_stopping": {"metric": "operating-point-specificity"}},
    ):
        with pytest.raises(UserError, match="needs the section operating_point, which chooses the threshold"):
            recipe_from(GOOD | {"train": unknown}, registry=registry)


def test_null_takes_a_limit_away(registry):
    recipe = read_recipe(
        "quickstart", ["accept.sensitivity.loss_at_most=0.1", "accept.accuracy=null"], registry=registry
    )
    assert {limit.name for limit in recipe.accept} == {"sensitivity"}


@pytest.mark.parametrize("given", [{"sensitivity": None}, {"sensitivity": None, "file": {"at_most": "1MB"}}])
def test_null_takes_one_default_away_and_reading_the_stored_recipe_again_does_not_bring_it_back(registry, given):
    recipe = recipe_from({**GOOD, "accept": given}, registry=registry)
    names = {limit.name for limit in recipe.accept}
    assert names == {"accuracy", *(["file"] if "file" in given else [])}
    again = recipe_from(recipe.to_dict(), registry=registry)
    assert {limit.name for limit in again.accept} == names
    nothing = recipe_from({**GOOD, "accept": {"sensitivity": None, "accuracy": None}}, registry=registry)
    assert nothing.accept == ()
    assert recipe_from(nothing.to_dict(), registry=registry).accept == ()
