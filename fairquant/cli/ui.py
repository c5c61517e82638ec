"""fairquant ui: the MLflow UI on the store that runs are tracked in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fairquant.addresses import without_secrets
from fairquant.errors import UserError

DEFAULT = "sqlite:///mlflow.db"
#: Kinds of databases that MLflow takes, and folders.
STORES = ("sqlite", "postgresql", "mysql", "mssql", "file")


def ui(
    recipe: Annotated[str | None, typer.Argument(help="A recipe: its tracking store is opened.")] = None,
    store: Annotated[
        str | None, typer.Option(help=f"The tracking store.  [default: the recipe's, or {DEFAULT}]")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open the MLflow UI, where runs, comparisons and studies are compared."""
    import subprocess
    import sys

    place = store or store_of(recipe)
    _check_store(place)
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow UI on {address} (store {without_secrets(place)}); Ctrl-C ends it")
    for name, view in views(place, address).items():
        print(f"  {name}: {view}")
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]
    # not on the command line, which every user of the machine can read: the address may hold a password
    raise SystemExit(subprocess.call(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": place}))


def _check_store(place: str) -> None:
    """UserError for an address that the UI cannot be opened on."""
    scheme = place.partition("://")[0].partition("+")[0].lower() if "://" in place else "file"
    if scheme in ("http", "https"):
        raise UserError(f"{without_secrets(place)}: is a tracking server, which has its own UI: open it in a browser")
    if scheme not in STORES:
        raise UserError(
            f"{without_secrets(place)}: must be a folder or the address of a database ({', '.join(STORES)})"
        )


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
