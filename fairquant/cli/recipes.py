"""fairquant recipes: what ships, and a copy of one to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List the recipes that ship, or copy one to change.", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List recipes and method presets, plugins' included."""
    if context.invoked_subcommand is not None:
        return
    from fairquant.recipe.presets import library
    from fairquant.registry import discover

    shelf = library(discover().registry)
    for name, file in shelf.recipes().items():
        print(f"recipes/{name:28} {_headline(file)}")
    print("methods:")
    for name, file in shelf.methods().items():
        print(f"  {name:34} {_headline(file)}")
    print("  NAME-ptq                           the same without training, for every method but fp32")


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A recipe's name, such as quickstart.")],
    to: Annotated[Path | None, typer.Argument(help="The new file; by default its own name, here.")] = None,
) -> None:
    """Copy a recipe to a file of your own; never writes over one."""
    from fairquant.errors import UserError
    from fairquant.files import write_atomically
    from fairquant.recipe.presets import library
    from fairquant.registry import discover

    file = library(discover().registry).find(name)
    target = to if to is not None else Path(file.name)
    if target.exists():
        raise UserError(f"{target}: exists already. Name another file: fairquant recipes copy {name} mine.yaml")
    write_atomically(target, file.read_bytes())
    print(f"{target}: copied. Run it: fairquant run {target}")


def _headline(file: Path) -> str:
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
