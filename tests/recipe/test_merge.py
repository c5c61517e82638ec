"""Who wins over whom: defaults, method, file, command line, --demo."""

from __future__ import annotations

import pytest
import yaml

from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.merge import read_overrides


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_file_wins_over_preset_and_command_line_over_both(tmp_path, registry):
    write(tmp_path / "r.yaml", method="fq-baq", allocator={"name": "knapsack"}, train={"epochs": 7})
    recipe = read_recipe("r.yaml", registry=registry)
    assert recipe.quantization.allocator.name == "knapsack"
    assert recipe.quantization.quantizer.name == "baq"
    assert recipe.train.epochs == 7
    assert (
        read_recipe(
            "r.yaml", ["train.epochs=2", "allocator.name=quantile"], registry=registry
        ).quantization.allocator.name
        == "quantile"
    )


def test_a_method_on_the_command_line_replaces_the_files_own_role_sections_and_says_so(tmp_path, registry):
    write(
        tmp_path / "r.yaml", method="fq-baq", quantizer={"name": "baq"}, budget={"average_bits": 3}, train={"epochs": 7}
    )
    recipe = read_recipe("r.yaml", ["method=uniform-4"], registry=registry)
    assert recipe.quantization.quantizer.name == "uniform"
    assert recipe.budget.average_bits == 4
    assert recipe.train.epochs == 7
    assert recipe.notes == ("method=uniform-4 replaces the recipe's own quantizer, budget",)
    assert read_recipe("r.yaml", ["method=uniform-4-ptq"], registry=registry).train.post_training


def test_demo_swaps_in_synthetic_data_and_says_so(registry):
    recipe = read_recipe("recipes/fitz_deit.yaml", registry=registry, demo=True)
    assert recipe.dataset.name == "synthetic-lesions"
    assert not recipe.model.pretrained
    assert recipe.demo
    assert any("DEMO" in note for note in recipe.notes)


def test_a_role_section_of_another_name_starts_afresh(tmp_path, registry):
    write(
        tmp_path / "r.yaml", method="fq-qat", allocator={"name": "quantile", "levels": [2, 8], "fractions": [0.5, 0.5]}
    )
    recipe = read_recipe("r.yaml", ["allocator.name=knapsack"], registry=registry)
    assert recipe.quantization.allocator.to_dict() == {"name": "knapsack"}


def test_overrides_are_parsed_as_yaml():
    given, problems = read_overrides(
        ["train.epochs=2", "metrics=[accuracy, {name: brier}]", "model.weights=null", "seed", "=3"]
    )
    assert given == {"train": {"epochs": 2}, "metrics": ["accuracy", {"name": "brier"}], "model": {"weights": None}}
    assert [problem.split(":")[0] for problem in problems] == ["command line"] * 2


def test_what_is_no_yaml_on_the_command_line_is_reported():
    given, problems = read_overrides(["train.epochs=[1"])
    assert given == {}
    assert problems[0].startswith("command line: ")


def test_the_name_of_a_layer_may_have_dots():
    given, problems = read_overrides(
        ["quantize.pin={stem: 8}", "quantize.pin.layer1.0.conv1=4", "quantize.pin.'a.b'=2"]
    )
    assert (given, problems) == ({"quantize": {"pin": {"stem": 8, "layer1.0.conv1": 4, "a.b": 2}}}, [])
    assert read_overrides(["quantize.pin.a.b=2", "quantize.pin=null"])[0] == {"quantize": {"pin": {"a.b": 2}}}


@pytest.mark.parametrize(("override", "message"), [
    ("dataset.root=images #2", "dataset.root: '#2' would be read as a comment. Write the text in quotation marks: '\"images #2\"'"),
    ("dataset.root=#2", "dataset.root: '#2' would be read as a comment."),
    ("metrics=[accuracy", "metrics: '[accuracy' cannot be read: expected ',' or ']'"),
    ("quantize.keep=[*.fc]", "quantize.keep: '[*.fc]' cannot be read: expected alphabetic"),
    ("quantize.pin.a.b={c: 1", "quantize.pin.a.b: '{c: 1' cannot be read"),
])  # fmt: skip
def test_what_would_be_cut_off_or_is_not_finished_is_refused(override, message):
    given, (problem,) = read_overrides([override])
    assert given == {}
    assert problem.startswith(f"command line: {message}")
    assert read_overrides(["dataset.root='images #2'", "name=a#b"]) == (
        {"dataset": {"root": "images #2"}, "name": "a#b"},
        [],
    )


def test_a_number_that_yaml_would_read_in_base_8_is_refused(tmp_path, registry):
    _, problems = read_overrides(
        ["seed=010", "model.image_size=064", "train.learning_rate=0.01", "seed=0", "recipe='010'"]
    )
    assert problems == [
        "command line: seed: 010 would be read in base 8. Write 10, or '010' for a text",
        "command line: model.image_size: 064 would be read in base 8. Write 64, or '064' for a text",
    ]
    (tmp_path / "r.yaml").write_text("dataset: {name: synthetic-lesions}\nseed: 010\n")
    with pytest.raises(UserError, match=r"r.yaml:2: seed: 010 would be read in base 8. Write 10"):
        read_recipe("r.yaml", registry=registry)


@pytest.mark.parametrize("other", ["quantize=3", "quantize.pin=3", "quantize.pin=[1]"])
def test_a_pinned_layer_and_another_value_of_its_section_do_not_go_together(other):
    for overrides in (["quantize.pin.b=4", other], [other, "quantize.pin.b=4"]):
        _, (problem,) = read_overrides(overrides)
        assert problem.startswith(
            "command line: quantize.pin.b: quantize.pin or quantize is given another value as well"
        )
    assert "would be read as nothing" in read_overrides(["model.weights=---"])[1][0]
