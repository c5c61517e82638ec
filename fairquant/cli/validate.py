"""fairquant validate: is this recipe valid?"""

from __future__ import annotations

from fairquant.cli.options import Demo, Overrides, RecipeArgument


def validate(recipe: RecipeArgument, overrides: Overrides = None, demo: Demo = False) -> None:
    """Check a recipe, and that its data exist, without running anything; every problem with its line."""
    from fairquant.errors import UserError
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover

    resolved = read_recipe(recipe, overrides or [], registry=discover().registry, demo=demo, searching=True)
    missing = resolved.dataset.value.check()
    if missing:
        raise UserError(missing, str(recipe))
    print(f"{recipe}: is valid ({resolved.method}, {resolved.dataset.name}, {resolved.model.name})")
