"""Recipes: what to do, read from YAML with line numbers, checked, and built into components."""

from fairquant.recipe.read import read_recipe, recipe_from
from fairquant.recipe.schema import Recipe

__all__ = ["Recipe", "read_recipe", "recipe_from"]
