"""A comparison in MLflow: one parent run, its methods' runs as children."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairquant_mlflow.listener import ID_FILE, client_of, experiment_of


def _id_file(comparison: Any) -> Path:
    folder: Path = comparison.folder
    return folder / "mlflow-run"


def start(comparison: Any) -> None:
    """Open the parent, or reopen that of an earlier, interrupted comparison."""
    client, file = client_of(comparison.recipe), _id_file(comparison)
    if file.exists():
        try:
            client.set_terminated(file.read_text().strip(), "RUNNING")
            return
        except Exception:
            file.unlink()  # another store than last time
    tags = {"mlflow.runName": f"{comparison.recipe.name} {comparison.name}", "kind": "comparison"}
    opened = client.create_run(experiment_of(client, comparison.recipe), tags=tags)
    file.write_text(opened.info.run_id)


def finish(comparison: Any, folders: Sequence[Path]) -> None:
    """Put the methods' runs under the parent, and the tables and the page into it."""
    if not _id_file(comparison).exists():
        return
    client, parent = client_of(comparison.recipe), _id_file(comparison).read_text().strip()
    for folder in folders:
        if (folder / ID_FILE).exists():
            client.set_tag((folder / ID_FILE).read_text().strip(), "mlflow.parentRunId", parent)
    for name in ("compare.html", "compare.json", "compare.md", "compare.tex"):
        client.log_artifact(parent, str(comparison.folder / name))
    client.set_terminated(parent, "FINISHED")
