"""A resolved recipe: its digest."""

from __future__ import annotations

from dataclasses import replace

import yaml

from fairquant.recipe import read_recipe, recipe_from
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import ModelSettings


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_the_hash_is_of_what_can_change_the_result(tmp_path, registry):
    write(tmp_path / "r.yaml")
    read = lambda *overrides: read_recipe("r.yaml", overrides, registry=registry).digest()
    assert read() == read("tracking.mlflow=null")
    assert read() != read("seed=1") != read("train.epochs=3")


def test_a_recipe_as_plain_data_reads_as_the_same_recipe(registry):
    recipe = read_recipe("quickstart", ["regularizers=[{name: loss-gap, weight: 2.0}]"], registry=registry)
    again = recipe_from(recipe.to_dict(), registry=registry, name=recipe.name)
    assert replace(again, notes=recipe.notes) == recipe


def test_in_full_precision_nothing_quantizes(registry):
    recipe = read_recipe("quickstart", ["method=fp32"], registry=registry)
    assert recipe.quantization is None
    assert recipe.to_dict()["quantizer"] is recipe.to_dict()["allocator"] is None
    assert "quantizer" not in dict(recipe.components())


def test_every_component_comes_with_its_role(registry):
    recipe = read_recipe(
        "quickstart", ["method=fq-qat", "regularizers=[loss-gap]", "metrics=[accuracy]"], registry=registry
    )
    assert [(role, component.name) for role, component in recipe.components()] == [
        ("dataset", "synthetic-lesions"), ("quantizer", "uniform"), ("allocator", "minimax"), ("importance", "block-fisher"),
        ("reducer", "max"), ("regularizer", "loss-gap"), ("metric", "accuracy"),
        ("metric", "accuracy"), ("metric", "sensitivity"), ("metric", "accuracy"),  # that choose epochs, that have limits
    ]  # fmt: skip


def test_the_label_of_a_metric_has_its_qualifier():
    class Plain:
        qualifier = ""

    class Qualified:
        qualifier = "fairprune"

    assert [Component("eodd", value()).label for value in (Plain, Qualified)] == ["eodd", "eodd-fairprune"]


def test_changing_sections_leaves_the_others(registry):
    recipe = read_recipe("quickstart", registry=registry)
    other = recipe.with_changes(model=ModelSettings(name="resnet50"))
    assert other.model.name == "resnet50"
    assert replace(other, model=recipe.model) == recipe


def test_the_digest_is_of_the_numbers_in_a_latency_table_not_of_its_path(tmp_path, registry):
    numbers = '{"layers": {"a": {"4": 0.1}}}'
    digests = []
    for name, text in (("one.json", numbers), ("two.json", numbers), ("two.json", numbers.replace("0.1", "0.2"))):
        (tmp_path / name).write_text(text)
        budget = [f"budget.latency_table={name}", "budget.latency=3ms", "budget.average_bits=null"]
        sizes = ["quantize.units=tensor", "quantize.choices=[2, 4]"]
        digests.append(read_recipe("quickstart", [*budget, *sizes], registry=registry).digest())
    assert digests[0] == digests[1] != digests[2]
