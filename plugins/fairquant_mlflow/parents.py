"""Comparisons and studies in MLflow: one parent run, with their runs as children and metrics of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fairquant.recipe.events import ComparisonInfo, StudyInfo
from fairquant_mlflow.listener import run_id_in
from fairquant_mlflow.store import client_of, experiment_of, log_values, origin
from fairquant_mlflow.summaries import comparison_values, study_values, table

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Kind = Literal["comparison", "study"]

FILES: dict[Kind, tuple[str, ...]] = {
    "comparison": ("compare.html", "compare.json", "compare.md", "compare.tex"),
    "study": ("study.html", "study.json"),
}
COMMANDS: dict[Kind, str] = {"comparison": "fairquant compare", "study": "fairquant study"}


def _id_file(parent: ComparisonInfo | StudyInfo) -> Path:
    return parent.folder / "mlflow-run"


def parent_id(parent: ComparisonInfo | StudyInfo) -> str | None:
    """The MLflow run of a comparison or study; None where its store could not be reached."""
    return _id_file(parent).read_text(encoding="utf-8").strip() if _id_file(parent).exists() else None


def start(parent: ComparisonInfo | StudyInfo, kind: Kind) -> None:
    """Open the parent run, or reopen that of an earlier, interrupted call. Raises where the store cannot be reached."""
    client, file = client_of(parent.recipe), _id_file(parent)
    if file.exists():
        try:
            client.set_terminated(file.read_text(encoding="utf-8").strip(), "RUNNING")
            return
        except Exception:
            file.unlink()  # not the store of the earlier call: open a new run
    name = parent.recipe.name
    tags = {"mlflow.runName": f"{name} {parent.name}", "kind": kind, **origin(f"{COMMANDS[kind]} {name}")}
    opened = client.create_run(experiment_of(client, parent.recipe), tags=tags)
    file.write_text(opened.info.run_id, encoding="utf-8")


def finish(parent: ComparisonInfo | StudyInfo, kind: Kind, folders: Sequence[Path]) -> None:
    """Attach the runs and files to the parent run, and log what the comparison or study as a whole has found."""
    own = parent_id(parent)
    if own is None:
        return
    client = client_of(parent.recipe)
    for folder in folders:
        if (run_id := run_id_in(folder)) is not None:
            set_parent(client, run_id, parent)
    if kind == "comparison":
        log_values(client, own, comparison_values(parent.folder / "compare.json"))
        client.set_tag(own, "mlflow.note.content", table(parent.folder / "compare.md"))
    else:
        log_values(client, own, study_values(parent.folder / "study.json"))
    for name in FILES[kind]:
        client.log_artifact(own, str(parent.folder / name))
    client.set_terminated(own, "FINISHED")


def set_parent(client: MlflowClient, run_id: str, parent: ComparisonInfo | StudyInfo) -> None:
    """Show the run below its comparison or study."""
    if (own := parent_id(parent)) is not None:
        client.set_tag(run_id, "mlflow.parentRunId", own)
