"""fairquant show: the resolved recipe, or a finished run."""

from __future__ import annotations

from pathlib import Path

from fairquant.cli.options import Demo, Overrides, RecipeArgument


def show(recipe: RecipeArgument, overrides: Overrides = None, demo: Demo = False) -> None:
    """Show a recipe with every default filled in; given a run's folder, its result."""
    folder = Path(recipe)
    if folder.is_dir():
        from fairquant.cli.run import summary
        from fairquant.errors import UserError
        from fairquant.runs.folder import finished_report

        report = finished_report(folder)
        if report is None:
            raise UserError(f"{folder}: no finished run (no report.json)")
        print(summary(report))
        return
    import yaml

    from fairquant.recipe import read_recipe
    from fairquant.registry import discover

    resolved = read_recipe(recipe, overrides or [], registry=discover().registry, demo=demo)
    for note in resolved.notes:
        print(f"# {note}")
    print(yaml.safe_dump(resolved.to_dict(), sort_keys=False, allow_unicode=True), end="")
