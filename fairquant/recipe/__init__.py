"""Reading, merging and checking recipes, and building their components."""

from fairquant.recipe.read import read_recipe, recipe_from
from fairquant.recipe.schema import Recipe

__all__ = ["Recipe", "read_recipe", "recipe_from"]
