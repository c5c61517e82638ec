"""fairquant ui: the MLflow UI on the store that runs are tracked in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairquant.errors import UserError
from fairquant.files import absolute_database

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
    print(f"MLflow UI on http://127.0.0.1:{port} (store {place}); Ctrl-C ends it")
    for name, address in views(place, port).items():
        print(f"  {name}: {address}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", place, "--port", str(port)]
    raise SystemExit(subprocess.call(command))


def views(place: str, port: int) -> dict[str, str]:
    """Experiment -> the address of its runs with the columns that matter; none where the store cannot be read yet."""
    if place == DEFAULT and not Path("mlflow.db").exists():
        return {}
    import logging

    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        experiments = MlflowClient(absolute_database(place)).search_experiments()
    except MlflowException:
        return {}
    return {
        each.name: f"http://127.0.0.1:{port}/#/experiments/{each.experiment_id}/runs?viewStateShareKey=fairquant"
        for each in experiments
        if any(key.endswith(".fairquant") for key in each.tags)
    }


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
