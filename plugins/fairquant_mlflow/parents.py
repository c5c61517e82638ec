"""Comparisons and studies in MLflow: one parent run, its runs as children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairquant_mlflow.listener import ID_FILE, LONGEST, client_of, experiment_of, log_values

FILES = {
    "comparison": ("compare.html", "compare.json", "compare.md", "compare.tex"),
    "study": ("study.html", "study.json"),
}
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def _id_file(parent: Any) -> Path:
    folder: Path = parent.folder
    return folder / "mlflow-run"


def start(parent: Any, kind: str) -> None:
    """Open the parent, or reopen that of an earlier, interrupted call."""
    client, file = client_of(parent.recipe), _id_file(parent)
    if file.exists():
        try:
            client.set_terminated(file.read_text().strip(), "RUNNING")
            return
        except Exception:
            file.unlink()  # another store than last time
    tags = {"mlflow.runName": f"{parent.recipe.name} {parent.name}", "kind": kind}
    opened = client.create_run(experiment_of(client, parent.recipe), tags=tags)
    file.write_text(opened.info.run_id)


def trial(study: Any, number: int, state: str, folder: Path | None, values: Mapping[str, float]) -> None:
    """A trial's run gets a readable name, its place under the study, its state and what it reached on validation."""
    if folder is None or not (folder / ID_FILE).exists():
        return
    client, run_id = client_of(study.recipe), (folder / ID_FILE).read_text().strip()
    name = client.get_run(run_id).data.tags.get("mlflow.runName", "")
    if not name.startswith("trial-"):  # a later trial with the same values is the same run
        client.set_tag(run_id, "mlflow.runName", f"trial-{number:03d} {name}")
        client.set_tag(run_id, "trial", str(number))
    client.set_tag(run_id, "state", state)
    _adopt(client, run_id, study)
    log_values(client, run_id, {f"validation/{key}": value for key, value in values.items()})
    client.set_terminated(run_id, STATUS.get(state, "FINISHED"))


def finish(parent: Any, kind: str, folders: Sequence[Path]) -> None:
    """Put the runs under the parent, the tables and the page into it, and the runs' results side by side as its metrics:
    one step a run, so that its charts show something."""
    if not _id_file(parent).exists():
        return
    client, parent_id = client_of(parent.recipe), _id_file(parent).read_text().strip()
    names = []
    for step, folder in enumerate(folders):
        if (folder / ID_FILE).exists():
            run_id = (folder / ID_FILE).read_text().strip()
            _adopt(client, run_id, parent)
            data = client.get_run(run_id).data
            names.append(f"{step}: {data.tags.get('mlflow.runName', run_id)}")
            shown = ("accuracy", "worst-group-accuracy", "accuracy-gap", "average_bits", "artifact_bytes")
            log_values(client, parent_id, {key: data.metrics.get(key) for key in shown}, step=step)
    client.set_tag(parent_id, "steps", ", ".join(names)[:LONGEST])
    for name in FILES[kind]:
        client.log_artifact(parent_id, str(parent.folder / name))
    client.set_terminated(parent_id, "FINISHED")


def _adopt(client: Any, run_id: str, parent: Any) -> None:
    if _id_file(parent).exists():
        client.set_tag(run_id, "mlflow.parentRunId", _id_file(parent).read_text().strip())
