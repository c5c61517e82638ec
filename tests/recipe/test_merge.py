"""Who wins over whom: defaults, method, file, command line, --demo."""

from __future__ import annotations

import yaml

from fairquant.recipe import read_recipe


def write(path, **sections):
    path.write_text(yaml.safe_dump({"dataset": {"name": "synthetic-lesions"}, **sections}))


def test_file_wins_over_preset_and_command_line_over_both(tmp_path, registry):
    write(tmp_path / "r.yaml", method="fq-baq", allocator={"name": "knapsack"}, train={"epochs": 7})
    recipe = read_recipe("r.yaml", registry=registry)
    assert recipe.quantization.allocator.name == "knapsack"
    assert recipe.quantization.quantizer.name == "baq"
    assert recipe.train.epochs == 7
    assert (
        read_recipe("r.yaml", ["train.epochs=2", "allocator.name=quantile"], registry=registry).quantization.allocator.name
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
