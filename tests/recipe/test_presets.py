"""Recipes and methods that ship."""

from __future__ import annotations

import pytest

from fairquant.api import recipe_yaml
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.presets import library, recipes_folder


@pytest.mark.parametrize("name", list(library().recipes()))
@pytest.mark.parametrize("demo", [False, True])
def test_every_shipped_recipe_is_valid_and_survives_a_round_trip(tmp_path, registry, name, demo):
    recipe = read_recipe(recipes_folder() / name, registry=registry, demo=demo)
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    again = read_recipe("again.yaml", registry=registry)
    assert again.digest() == recipe.digest()
    assert again.to_dict() == recipe.to_dict()


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
