"""fairquant ui: the MLflow UI on the store that runs are tracked in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairquant.errors import UserError

DEFAULT = "sqlite:///mlflow.db"


def ui(
    recipe: Annotated[str | None, typer.Argument(help="A recipe: its tracking store is opened.")] = None,
    store: Annotated[
        str | None, typer.Option(help=f"The tracking store.  [default: the recipe's, or {DEFAULT}]")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
) -> None:
    """Open the MLflow UI, where runs, comparisons and studies are compared."""
    import subprocess
    import sys

    place = store or store_of(recipe)
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow UI on {address} (store {place}); Ctrl-C ends it")
    for name, view in views(place, address).items():
        print(f"  {name}: {view}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", place, "--port", str(port)]
    raise SystemExit(subprocess.call(command))


def views(place: str, address: str) -> dict[str, str]:
    """Experiment -> the address of its runs with the columns that matter; none where there is no store yet."""
    if place == DEFAULT and not Path("mlflow.db").exists():
        return {}
    from fairquant.report.tracking import tracking_views

    return tracking_views(place, address)


def store_of(recipe: str | None) -> str:
    """Where the recipe's runs are tracked."""
    if recipe is None:
        return DEFAULT
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover

    named = read_recipe(recipe, registry=discover().registry).tracking.mlflow
    if named is None:
        raise UserError(f"{recipe}: its tracking.mlflow is null: its runs are not tracked")
    return named
