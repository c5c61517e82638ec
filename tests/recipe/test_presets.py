"""Recipes and methods that ship."""

from __future__ import annotations

import pytest

from fairquant.api import recipe_yaml
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.presets import Library, library, recipes_folder


@pytest.mark.parametrize("name", list(library().recipes()))
@pytest.mark.parametrize("demo", [False, True])
def test_every_shipped_recipe_is_valid_and_survives_a_round_trip(tmp_path, registry, name, demo):
    recipe = read_recipe(recipes_folder() / name, registry=registry, demo=demo)
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    again = read_recipe("again.yaml", registry=registry)
    assert again.digest() == recipe.digest()
    assert again.to_dict() == recipe.to_dict()


def test_the_searches_of_shipped_recipes_are_of_keys_that_their_methods_have(registry):
    searched = [name for name in library().recipes() if read_recipe(recipes_folder() / name, registry=registry).search]
    assert len(searched) >= 3
    for name in searched:
        read_recipe(recipes_folder() / name, registry=registry, searching=True)


@pytest.mark.parametrize("method", library().method_names())
def test_every_method_can_be_put_on_every_recipe(registry, method):
    for name in list(library().recipes()):
        recipe = read_recipe(recipes_folder() / name, [f"method={method}"], registry=registry)
        assert recipe.method == method


def test_a_recipe_that_is_not_there_is_suggested(registry):
    with pytest.raises(
        UserError, match=r"no recipe 'recipes/quickstar.yaml'. Did you mean 'recipes/quickstart.yaml'\?"
    ):
        read_recipe("recipes/quickstar.yaml", registry=registry)


def test_ours_come_first_and_plugins_add_what_has_another_name(tmp_path):
    for folder, names in (("ours", ["one"]), ("theirs", ["one", "two"])):
        (tmp_path / folder / "methods").mkdir(parents=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").write_text(f"# {folder}")
            (tmp_path / folder / "methods" / f"{name}.yaml").write_text(f"seed: {len(folder)}")
    shelf = Library((tmp_path / "ours", tmp_path / "theirs"))
    assert {name: file.parent.name for name, file in shelf.recipes().items()} == {
        "one.yaml": "ours",
        "two.yaml": "theirs",
    }
    assert shelf.load_method("one") == {"seed": 4}
    assert shelf.method_names() == ["one", "one-ptq", "two", "two-ptq"]


def test_an_untrained_method_is_the_method_without_training_and_penalties(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "m.yaml").write_text(
        "allocator: {name: knapsack}\nregularizers: [loss-gap]\ntrain: {rounds: 4}\n"
    )
    assert Library((tmp_path,)).load_method("m-ptq") == {
        "allocator": {"name": "knapsack"},
        "train": {"post_training": True},
    }


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "recipes/quickstart", "recipes/quickstart.yaml"])
def test_a_shipped_recipe_is_found_by_its_name(name):
    assert library().find(name) == recipes_folder() / "quickstart.yaml"


def test_a_file_of_ones_own_comes_before_a_shipped_recipe(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("seed: 1")
    assert library().find("quickstart.yaml").resolve() == tmp_path / "quickstart.yaml"
