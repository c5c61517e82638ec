"""Recipes that ship, who wins over whom, and that a resolved recipe is itself."""

from __future__ import annotations

import pytest
import yaml

from fairquant.api import recipe_yaml
from fairquant.recipe import read_recipe
from fairquant.recipe.presets import library, recipes_folder


@pytest.mark.parametrize("name", list(library().recipes()))
@pytest.mark.parametrize("demo", [False, True])
def test_every_shipped_recipe_is_in_order_and_survives_a_round_trip(tmp_path, registry, name, demo):
    recipe = read_recipe(recipes_folder() / name, registry=registry, demo=demo)
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    again = read_recipe("again.yaml", registry=registry)
    assert again.digest() == recipe.digest()
    assert again.to_dict() == recipe.to_dict()


@pytest.mark.parametrize("name", list(library().recipes()))
def test_every_shipped_recipe_has_a_model_that_can_be_built(registry, name):
    from fairquant.runs.models import build_model

    recipe = read_recipe(recipes_folder() / name, ["model.pretrained=false", "model.weights=null"], registry=registry)
    model, normalize, _ = build_model(recipe.model, 5)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6
    assert len(normalize.mean) == 3


@pytest.mark.parametrize("method", library().method_names())
def test_every_method_can_be_put_on_every_recipe(registry, method):
    for name in list(library().recipes()):
        recipe = read_recipe(recipes_folder() / name, [f"method={method}"], registry=registry)
        assert recipe.method == method


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "deit_tiny_patch16_224", "tiny_vit_5m_224"])
def test_the_papers_models_have_layers_to_quantize(registry, name):
    from fairquant.bits import find_layers
    from fairquant.runs.models import build_model
    from fairquant.recipe.sections import ModelSettings

    model, _, _ = build_model(ModelSettings(name=name), 8)
    layers = find_layers(model, "channel")
    quantized = sum(layer.weight.numel() for layer in layers)
    assert quantized > 0.96 * sum(parameter.numel() for parameter in model.parameters())


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_file_wins_over_preset_and_command_line_over_both(tmp_path, registry):
    write(tmp_path / "r.yaml", method="fq-baq", allocator={"name": "knapsack"}, train={"epochs": 7})
    recipe = read_recipe("r.yaml", registry=registry)
    assert recipe.allocator.name == "knapsack"
    assert recipe.quantizer.name == "baq"
    assert recipe.train.epochs == 7
    assert (
        read_recipe("r.yaml", ["train.epochs=2", "allocator.name=quantile"], registry=registry).allocator.name
        == "quantile"
    )


def test_a_method_on_the_command_line_replaces_the_files_own_role_sections_and_says_so(tmp_path, registry):
    write(
        tmp_path / "r.yaml", method="fq-baq", quantizer={"name": "baq"}, budget={"average_bits": 3}, train={"epochs": 7}
    )
    recipe = read_recipe("r.yaml", ["method=uniform-4"], registry=registry)
    assert recipe.quantizer.name == "uniform"
    assert recipe.budget.average_bits == 4
    assert recipe.train.epochs == 7
    assert recipe.notes == ("method=uniform-4 replaces the recipe's own quantizer, budget",)
    assert read_recipe("r.yaml", ["method=uniform-4-ptq"], registry=registry).train.post_training


def test_the_hash_is_of_what_can_change_the_result(tmp_path, registry):
    write(tmp_path / "r.yaml")
    read = lambda *overrides: read_recipe("r.yaml", overrides, registry=registry).digest()
    assert read() == read("tracking.mlflow=null")
    assert read() != read("seed=1") != read("train.epochs=3")


def test_demo_swaps_in_synthetic_data_and_says_so(registry):
    recipe = read_recipe("recipes/fitz_deit.yaml", registry=registry, demo=True)
    assert recipe.dataset.name == "synthetic-lesions"
    assert not recipe.model.pretrained
    assert recipe.demo
    assert any("DEMO" in note for note in recipe.notes)


@pytest.mark.parametrize(
    ("name", "method"),
    [("fitz_resnet18", "uniform-4-ptq"), ("fitz_resnet50", "uniform-4-ptq"), ("fitz_deit", "uniform-4-ptq"), ("fitz_tinyvit", "fq-baq"),
     ("isic_resnet18", "fq-baq"), ("isic_resnet50", "uniform-4-ptq"), ("isic_deit", "fq-baq"), ("isic_tinyvit", "uniform-4-ptq")],
)  # fmt: skip
def test_the_papers_grid_runs_in_small_form(tmp_path, name, method):
    from fairquant.api import run

    short = ["quantize.choices=[4]"] if method == "uniform-4-ptq" else []
    result = run(
        name, f"method={method}", *short, "dataset.images=80", "model.image_size=64", "baseline.epochs=1", "train.epochs=1",
        "train.batch_size=16", "baseline.batch_size=16", "calibration.images=16", "calibration.batch_size=16",
        "tracking.mlflow=null", "baseline.augment=flips", "train.augment=flips", demo=True, runs=tmp_path,
    )  # fmt: skip
    assert "DEMO" in result.report["recipe"]
    assert result.report["bits"]["average"] <= result.report["budget"]["average_bits"] <= 4
