"""fairquant ui: the MLflow UI on the store that runs are tracked in."""

from __future__ import annotations

from typing import Annotated

import typer


def ui(
    store: Annotated[str, typer.Option(help="The tracking store.")] = "sqlite:///mlflow.db",
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
) -> None:
    """Open the MLflow UI, where runs are compared."""
    import subprocess
    import sys

    print(f"MLflow UI on http://127.0.0.1:{port} (store {store}); Ctrl-C ends it")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--port", str(port)]
    raise SystemExit(subprocess.call(command))
