"""The trials of a study in MLflow: a child each, also where several share one run or have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.files import folder_lock
from fairquant.recipe.events import StudyInfo
from fairquant_mlflow import machine
from fairquant_mlflow.listener import ID_FILE, run_id_in
from fairquant_mlflow.parents import parent_id, set_parent
from fairquant_mlflow.store import client_of, experiment_of, log_values

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
#: Tags of a run that its duplicates share: by them the shared view selects and shows runs.
SHARED = ("method", "seed", "recipe", "demo", "folder")


def trial(study: StudyInfo, number: int, state: str, folder: Path | None, values: Mapping[str, float]) -> None:
    """Give a trial's run a readable name, its place under the study, its state and its validation metrics.

    Trials that drew the same values share one run, the child of the first; each later one gets a small child of its own.
    So does a trial that failed before its run began.
    """
    run_id = None if folder is None else run_id_in(folder)
    if run_id is None and parent_id(study) is None:
        return
    client, status = client_of(study.recipe), STATUS.get(state, "FINISHED")
    if folder is None or run_id is None:
        shown = _child(client, study, f"trial-{number:03d} not run", {"trial": str(number)})
    else:
        machine.stop(run_id)
        with folder_lock((folder / ID_FILE).parent, blocking=True):  # of workers that share the run, one is the first
            first = _claimed(client, study, number, run_id)
        shown = run_id if first is None else _duplicate(client, study, number, run_id, first)
        if client.get_run(run_id).info.status == "RUNNING":  # a duplicate may have resumed what the first had stopped
            client.set_terminated(run_id, status)
    client.set_tag(shown, "state", state)
    set_parent(client, shown, study)
    log_values(client, shown, {f"validation/{key}": value for key, value in values.items()})
    client.set_terminated(shown, status)


def _claimed(client: MlflowClient, study: StudyInfo, number: int, run_id: str) -> Mapping[str, str] | None:
    """Make the run this trial's. Where it is another's already, nothing is changed; returns its tags."""
    tags: dict[str, str] = client.get_run(run_id).data.tags
    if "trial" in tags:
        mine = tags["trial"] == str(number) and tags.get("mlflow.parentRunId") == parent_id(study)
        return None if mine else tags
    client.set_tag(run_id, "mlflow.runName", f"trial-{number:03d} {tags.get('mlflow.runName', '')}")
    client.set_tag(run_id, "trial", str(number))
    set_parent(client, run_id, study)
    return None


def _duplicate(client: MlflowClient, study: StudyInfo, number: int, run_id: str, first: Mapping[str, str]) -> str:
    """A run that stands for a trial whose results are those of an earlier trial's run."""
    shared = {key: first[key] for key in SHARED if key in first}
    name = f"trial-{number:03d} same as trial-{int(first['trial']):03d}"
    return _child(client, study, name, {**shared, "trial": str(number), "duplicate_of": run_id})


def _child(client: MlflowClient, study: StudyInfo, name: str, tags: Mapping[str, str]) -> str:
    experiment = experiment_of(client, study.recipe)
    run_id: str = client.create_run(experiment, tags={"method": study.recipe.method, **tags}, run_name=name).info.run_id
    return run_id
