"""The trials of a study in MLflow: a child each, also where several share one run or have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.recipe.events import StudyInfo
from fairquant_mlflow import machine
from fairquant_mlflow.listener import run_id_in
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
    run_id, own = (None if folder is None else run_id_in(folder)), parent_id(study)
    if run_id is None and own is None:
        return
    client = client_of(study.recipe)
    if run_id is not None:
        machine.stop(run_id)
        tags: dict[str, str] = client.get_run(run_id).data.tags
        mine = tags.get("trial") == str(number) and tags.get("mlflow.parentRunId") == own
        if "trial" in tags and not mine:
            run_id = _duplicate(client, study, number, run_id, tags)
        elif not mine:
            client.set_tag(run_id, "mlflow.runName", f"trial-{number:03d} {tags.get('mlflow.runName', '')}")
            client.set_tag(run_id, "trial", str(number))
    else:
        run_id = _child(client, study, f"trial-{number:03d} not run", {"trial": str(number)})
    client.set_tag(run_id, "state", state)
    set_parent(client, run_id, study)
    log_values(client, run_id, {f"validation/{key}": value for key, value in values.items()})
    client.set_terminated(run_id, STATUS.get(state, "FINISHED"))


def _duplicate(client: MlflowClient, study: StudyInfo, number: int, run_id: str, tags: Mapping[str, str]) -> str:
    """A run that stands for a trial whose results are those of an earlier trial's run."""
    shared = {key: tags[key] for key in SHARED if key in tags}
    name = f"trial-{number:03d} same as trial-{int(tags['trial']):03d}"
    return _child(client, study, name, {**shared, "trial": str(number), "duplicate_of": run_id})


def _child(client: MlflowClient, study: StudyInfo, name: str, tags: Mapping[str, str]) -> str:
    experiment = experiment_of(client, study.recipe)
    run_id: str = client.create_run(experiment, tags={"method": study.recipe.method, **tags}, run_name=name).info.run_id
    return run_id
