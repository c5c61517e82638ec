"""Comparisons and studies in MLflow: one parent run, with their runs as children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fairquant.recipe.events import ComparisonInfo, StudyInfo
from fairquant_mlflow.listener import ID_FILE, LONGEST, client_of, experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Kind = Literal["comparison", "study"]

FILES: dict[Kind, tuple[str, ...]] = {
    "comparison": ("compare.html", "compare.json", "compare.md", "compare.tex"),
    "study": ("study.html", "study.json"),
}
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
#: Metrics of the runs that are shown side by side in the parent.
SUMMARY = ("accuracy", "worst-group-accuracy", "accuracy-gap", "average_bits", "artifact_bytes")


def _id_file(parent: ComparisonInfo | StudyInfo) -> Path:
    return parent.folder / "mlflow-run"


def start(parent: ComparisonInfo | StudyInfo, kind: Kind) -> None:
    """Open the parent run, or reopen that of an earlier, interrupted call. Raises where the store cannot be reached."""
    client, file = client_of(parent.recipe), _id_file(parent)
    if file.exists():
        try:
            client.set_terminated(file.read_text().strip(), "RUNNING")
            return
        except Exception:
            file.unlink()  # not the store of the earlier call: open a new run
    tags = {"mlflow.runName": f"{parent.recipe.name} {parent.name}", "kind": kind}
    opened = client.create_run(experiment_of(client, parent.recipe), tags=tags)
    file.write_text(opened.info.run_id)


def trial(study: StudyInfo, number: int, state: str, folder: Path | None, values: Mapping[str, float]) -> None:
    """Give a trial's run a readable name, its place under the study, its state and its validation metrics."""
    if folder is None or not (folder / ID_FILE).exists():
        return
    client, run_id = client_of(study.recipe), (folder / ID_FILE).read_text().strip()
    name = client.get_run(run_id).data.tags.get("mlflow.runName", "")
    if not name.startswith("trial-"):  # a later trial with the same values is the same run
        client.set_tag(run_id, "mlflow.runName", f"trial-{number:03d} {name}")
        client.set_tag(run_id, "trial", str(number))
    client.set_tag(run_id, "state", state)
    _set_parent(client, run_id, study)
    log_values(client, run_id, {f"validation/{key}": value for key, value in values.items()})
    client.set_terminated(run_id, STATUS.get(state, "FINISHED"))


def finish(parent: ComparisonInfo | StudyInfo, kind: Kind, folders: Sequence[Path]) -> None:
    """Attach the runs and files to the parent run, and log the results of the runs as its metrics, one step per run, so
    that its charts compare them."""
    if not _id_file(parent).exists():
        return
    client, parent_id = client_of(parent.recipe), _id_file(parent).read_text().strip()
    names = []
    for step, folder in enumerate(folders):
        if (folder / ID_FILE).exists():
            run_id = (folder / ID_FILE).read_text().strip()
            _set_parent(client, run_id, parent)
            data = client.get_run(run_id).data
            names.append(f"{step}: {data.tags.get('mlflow.runName', run_id)}")
            log_values(client, parent_id, {key: data.metrics.get(key) for key in SUMMARY}, step=step)
    client.set_tag(parent_id, "steps", ", ".join(names)[:LONGEST])
    for name in FILES[kind]:
        client.log_artifact(parent_id, str(parent.folder / name))
    client.set_terminated(parent_id, "FINISHED")


def _set_parent(client: MlflowClient, run_id: str, parent: ComparisonInfo | StudyInfo) -> None:
    if _id_file(parent).exists():
        client.set_tag(run_id, "mlflow.parentRunId", _id_file(parent).read_text().strip())
