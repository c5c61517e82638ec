"""fairquant validate: is this recipe valid?"""

from __future__ import annotations

import sys

from fairquant.cli.options import Demo, Overrides, RecipeArgument


def validate(recipe: RecipeArgument, overrides: Overrides = None, demo: Demo = False) -> None:
    """Check a recipe, and that its data exist, without running anything; every problem with its line."""
    from fairquant.errors import UserError
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover
    from fairquant.runs.data import missing_data
    from fairquant.runs.models import model_problems

    plugins = discover()
    resolved = read_recipe(recipe, overrides or [], registry=plugins.registry, demo=demo, searching=True)
    missing = missing_data(resolved, plugins.registry)
    missing += model_problems(resolved.model)
    if missing:
        raise UserError(missing, str(recipe))
    for problem in plugins.problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"{recipe}: is valid ({resolved.method}, {resolved.dataset.name}, {resolved.model.name})")
