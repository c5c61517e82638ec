"""Where each key of a YAML file stands."""

from __future__ import annotations

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.lines import line_of, parse_yaml

GOOD = "dataset: {name: synthetic-lesions}\n"


def test_text_that_is_no_yaml_names_the_line(tmp_path, registry):
    (tmp_path / "bad.yaml").write_text(GOOD + "train: {epochs: 3\n")
    with pytest.raises(UserError, match=r"bad.yaml:3: not valid YAML"):
        read_recipe("bad.yaml", registry=registry)


def test_every_key_and_list_entry_has_its_line():
    content, lines, problems = parse_yaml(
        "seed: 1\ntrain:\n  epochs: 2\nmetrics:\n  - accuracy\n  - {name: brier}\n", "r.yaml"
    )
    assert content == {"seed": 1, "train": {"epochs": 2}, "metrics": ["accuracy", {"name": "brier"}]}
    assert lines == {
        "seed": 1,
        "train": 2,
        "train.epochs": 3,
        "metrics": 4,
        "metrics[0]": 5,
        "metrics[1]": 6,
        "metrics[1].name": 6,
    }
    assert problems == []


def test_a_key_given_twice_is_reported_with_both_lines():
    _, _, problems = parse_yaml("train:\n  epochs: 2\n  epochs: 3\n", "r.yaml")
    assert problems == ["r.yaml:3: train.epochs: given twice (first in line 2)"]


def test_a_key_without_a_line_has_that_of_the_section_around_it():
    lines = {"train": 2, "metrics": 4, "metrics[1]": 6}
    assert line_of("train.early_stopping.patience", lines) == 2
    assert line_of("metrics[1].min_support", lines) == 6
    assert line_of("metrics[7].name", lines) == 4
    assert line_of("budget.size", lines) is None


def test_an_empty_file_is_an_empty_recipe_and_a_list_is_none():
    assert parse_yaml("", "r.yaml") == ({}, {}, [])
    with pytest.raises(UserError, match="r.yaml:1: a recipe is a mapping of sections, this is a list"):
        parse_yaml("- 1", "r.yaml")
