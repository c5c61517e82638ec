"""What is logged to MLflow: parameters, metrics per epoch and final ones by group, the report, the plan and the model.

The MLflow run's id is stored in the run's folder, so that a resumed run continues the same MLflow run. Where the store
cannot be reached at the start of a run, no id is stored: there is one warning and no further attempt.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.files import absolute_database
from fairquant.recipe.events import Report, RunInfo
from fairquant.recipe.schema import Recipe

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LONGEST = 6_000  # characters of a parameter or tag that MLflow accepts
ID_FILE = Path("checkpoints") / "mlflow-run"

#: By default MLflow shows no metrics. A shared view of our own, stored in the experiment, selects the columns that matter;
#: `fairquant ui` prints the address that opens it.
VIEW = "mlflow.sharedViewState.fairquant"
COLUMNS = {
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("accuracy", "worst-group-accuracy", "accuracy-gap")),
        *(f"metrics.`validation/{name}`" for name in ("accuracy", "worst-group-accuracy")),
        *(f"metrics.`{name}`" for name in ("average_bits", "artifact_bytes")),
        *(f"tags.`{name}`" for name in ("method", "state")),
    ],
    "viewMaximized": False, "runListHidden": False, "lifecycleFilter": "Active",
    # only runs, ordered by name: ordered by date they would be folded below their parents
    "searchFilter": "tags.method != ''", "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True,
}  # fmt: skip


def client_of(recipe: Recipe) -> MlflowClient:
    """A client of the store that the recipe names."""
    # where the server is down, fail within seconds rather than minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    import logging

    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # importing mlflow makes these loggers verbose
        logging.getLogger(name).setLevel(logging.ERROR)

    assert recipe.tracking.mlflow is not None
    return MlflowClient(tracking_uri=absolute_database(recipe.tracking.mlflow))


def _id_file(run: RunInfo) -> Path:
    return run.folder / ID_FILE


def _run_id(run: RunInfo) -> str | None:
    try:
        return _id_file(run).read_text().strip() or None
    except OSError:
        return None


def start(run: RunInfo) -> None:
    """Open or reopen the MLflow run. ConnectionError where the store cannot be reached; the engine reports it as a
    warning."""
    recipe = run.recipe
    previous = _run_id(run)
    _id_file(run).unlink(missing_ok=True)
    client = client_of(recipe)
    if previous is not None:
        try:
            client.set_terminated(previous, "RUNNING")
            _store_id(run, previous)
            return
        except Exception:
            pass  # not the store of the interrupted run: open a new MLflow run
    try:
        experiment_id = experiment_of(client, recipe)
        tags = {
            "mlflow.runName": run_name(recipe), "method": recipe.method, "seed": str(recipe.seed),
            "recipe": recipe.name, "demo": str(recipe.demo).lower(), "folder": str(run.folder),
        }  # fmt: skip
        opened = client.create_run(experiment_id, tags=tags)
        _store_id(run, opened.info.run_id)
        _log_parameters(client, opened.info.run_id, recipe)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"MLflow at {recipe.tracking.mlflow!r} cannot be reached, this run is not tracked: {reason}"
        ) from None


def _artifacts_of(store: str, experiment: str) -> str | None:
    """Where files are stored: beside a database file, whatever the current folder; None where a server decides."""
    address, prefix = absolute_database(store), "sqlite:///"
    if not address.startswith(prefix) or address.startswith(prefix + ":"):
        return None
    return (Path(address.removeprefix(prefix)).parent / "mlruns" / experiment).as_uri()


def experiment_of(client: MlflowClient, recipe: Recipe) -> str:
    """The id of the recipe's experiment, created where it is missing; another process may create it at the same time."""
    name = recipe.tracking.experiment or recipe.name + ("-demo" if recipe.demo else "")
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            assert recipe.tracking.mlflow is not None
            location = _artifacts_of(recipe.tracking.mlflow, name)
            created: str = client.create_experiment(name, artifact_location=location, tags={VIEW: json.dumps(COLUMNS)})
            return created
        except Exception:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if VIEW not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, VIEW, json.dumps(COLUMNS))
    experiment_id: str = experiment.experiment_id
    return experiment_id


def run_name(recipe: Recipe) -> str:
    """Readable, and different for the runs of a comparison: fq-baq-3bit-seed0, fp32-seed0."""
    budget = str(recipe.budget).replace(" bits", "bit").replace(" and ", "-").replace(" BOPs", "BOPs")
    bits = "" if recipe.quantization is None else f"-{budget}"
    return f"{recipe.method}{bits}-seed{recipe.seed}"


def _store_id(run: RunInfo, run_id: str) -> None:
    _id_file(run).parent.mkdir(parents=True, exist_ok=True)
    _id_file(run).write_text(run_id)


def _log_parameters(client: MlflowClient, run_id: str, recipe: Recipe) -> None:
    from mlflow.entities import Param

    params = [Param(key, str(value)[:LONGEST]) for key, value in flatten(recipe.to_dict()).items()]
    for first in range(0, len(params), 100):  # MLflow accepts 100 parameters per call
        client.log_batch(run_id, params=params[first : first + 100])


def flatten(values: Mapping[str, object], path: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists of components by their names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        key = f"{path}.{name}" if path else str(name)
        if isinstance(value, Mapping):
            flat |= flatten(value, key)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for component in value:
                options = {k: v for k, v in component.items() if k != "name"}
                convention = options.get("convention", "valid")
                label = component.get("name", "?") + (f"-{convention}" if convention != "valid" else "")
                flat |= flatten(options, f"{key}.{label}") if options else {f"{key}.{label}": "on"}
        else:
            flat[key] = value
    return flat


def metric_name(text: str) -> str:
    """Replace the characters that MLflow does not accept: all but letters, digits and _ - . / space."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in text)


def log_values(client: MlflowClient, run_id: str, values: Mapping[str, float | None], step: int = 0) -> None:
    """Log the values that are numbers (neither None nor NaN) as metrics."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(metric_name(key), float(value), now, step)
        for key, value in values.items()
        if value is not None and not math.isnan(value)
    ]
    for first in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[first : first + 500])


def epoch(run: RunInfo, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    """Log the values of an epoch under the name of their stage."""
    run_id = _run_id(run)
    if run_id is not None:
        named = {f"{stage}/{name}": value for name, value in values.items()}
        log_values(client_of(run.recipe), run_id, named, step=epoch)


def finish(run: RunInfo, report: Report) -> None:
    """Log final metrics, tags and files, and close the MLflow run."""
    run_id = _run_id(run)
    if run_id is None:
        return
    client = client_of(run.recipe)
    log_values(client, run_id, final_values(report))
    client.set_tag(run_id, "dataset.fingerprint", report["dataset"]["fingerprint"])
    client.set_tag(run_id, "dataset.name", report["dataset"]["name"])
    for name, number in report["versions"].items():
        client.set_tag(run_id, f"version.{name}", number)
    for file in ("report.html", "report.json", "bit_plan.csv", "recipe.yaml", "model.safetensors"):
        client.log_artifact(run_id, str(run.folder / file))
    client.set_terminated(run_id, "FINISHED")


def final_values(report: Report) -> dict[str, float | None]:
    """Final metrics: value, interval ends and each group's value; change against full precision; bits; bytes."""
    values: dict[str, float | None] = {
        "average_bits": report["bits"]["average"], "artifact_bytes": report["artifact"]["bytes"],
    }  # fmt: skip
    for label, metric in report["metrics"].items():
        values[label] = metric["value"]
        values[f"{label}/low"], values[f"{label}/high"] = metric["low"], metric["high"]
        values |= {f"{label}/{group}": value for group, value in metric["by_group"].items()}
        values[f"baseline/{label}"] = report["baseline"]["metrics"][label]["value"]
    for name, change in report["change"].items():
        values[f"change/{name}"] = change["value"]
        values |= {f"change/{name}/{group}": interval["value"] for group, interval in change["by_group"].items()}
    return values


def fail(run: RunInfo, error: BaseException) -> None:
    """Log the error and close the MLflow run as failed, or as killed where the user interrupted it."""
    run_id = _run_id(run)
    if run_id is not None:
        client = client_of(run.recipe)
        client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:LONGEST])
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
