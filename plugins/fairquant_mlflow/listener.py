"""What goes to MLflow: parameters, metrics per epoch and final ones by group, the report, the plan and the model.

The MLflow run's id lies in the run's folder, so that a resumed run goes on in the same MLflow run. A store that cannot
be reached when the run starts leaves no id there: one warning, and no further attempt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairquant.files import absolute_database

LONGEST = 6_000  # characters of a parameter that MLflow takes


ID_FILE = Path("checkpoints") / "mlflow-run"


def client_of(recipe: Any) -> Any:
    """A client of the store that the recipe names."""
    # a server that is down must cost seconds, not minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    import logging

    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # importing it sets its loggers to talk
        logging.getLogger(name).setLevel(logging.ERROR)

    return MlflowClient(tracking_uri=absolute_database(recipe.tracking.mlflow))


def _id_file(run: Any) -> Path:
    folder: Path = run.folder
    return folder / ID_FILE


def _run_id(run: Any) -> str | None:
    try:
        return _id_file(run).read_text().strip() or None
    except OSError:
        return None


def start(run: Any) -> None:
    """Open (or reopen) the MLflow run; raises where the store cannot be reached, which the engine makes a warning."""
    recipe = run.recipe
    previous = _run_id(run)
    _id_file(run).unlink(missing_ok=True)
    client = client_of(run.recipe)
    try:
        if previous is not None:
            client.set_terminated(previous, "RUNNING")
            _remember(run, previous)
            return
    except Exception:
        previous = None  # another store than last time: a new run
    try:
        experiment_id = experiment_of(client, recipe)
        tags = {
            "mlflow.runName": run_name(recipe), "method": recipe.method, "seed": str(recipe.seed),
            "recipe": recipe.name, "demo": str(recipe.demo).lower(), "folder": str(run.folder),
        }  # fmt: skip
        opened = client.create_run(experiment_id, tags=tags)
        _remember(run, opened.info.run_id)
        _parameters(client, opened.info.run_id, recipe)
    except Exception as error:
        raise ConnectionError(
            f"MLflow at {recipe.tracking.mlflow!r} cannot be reached, this run is not tracked: {str(error).splitlines()[0]}"
        ) from None


#: The MLflow UI shows no metric of its own accord. A view of its own kind, kept in the experiment, names the columns that
#: matter; `fairquant ui` prints the address that opens it.
VIEW = "mlflow.sharedViewState.fairquant"
COLUMNS = {
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("accuracy", "worst-group-accuracy", "accuracy-gap")),
        *(f"metrics.`validation/{name}`" for name in ("accuracy", "worst-group-accuracy")),
        *(f"metrics.`{name}`" for name in ("average_bits", "artifact_bytes")),
        *(f"tags.`{name}`" for name in ("method", "state")),
    ],
    "viewMaximized": False, "runListHidden": False, "lifecycleFilter": "Active",
    # the runs themselves, by name: ordered by date they would be folded away below their parents
    "searchFilter": "tags.method != ''", "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True,
}  # fmt: skip


def _artifacts_of(store: str, experiment: str) -> str | None:
    """Files lie beside a database in a file, wherever the command is given; a server has a place of its own for them."""
    address, prefix = absolute_database(store), "sqlite:///"
    if not address.startswith(prefix) or address.startswith(prefix + ":"):
        return None
    return (Path(address.removeprefix(prefix)).parent / "mlruns" / experiment).as_uri()


def experiment_of(client: Any, recipe: Any) -> Any:
    """The id of the recipe's experiment, made where it is missing; another job may make it at the same time."""
    name = recipe.tracking.experiment or recipe.name + ("-demo" if recipe.demo else "")
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            place = _artifacts_of(recipe.tracking.mlflow, name)
            return client.create_experiment(name, artifact_location=place, tags={VIEW: json.dumps(COLUMNS)})
        except Exception:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if VIEW not in experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, VIEW, json.dumps(COLUMNS))
    return experiment.experiment_id


def run_name(recipe: Any) -> str:
    """Readable, and different for the runs of a comparison: fq-baq-3bit-seed0, fp32-seed0."""
    budget = str(recipe.budget).replace(" bits", "bit").replace(" and ", "-").replace(" BOPs", "BOPs")
    bits = "" if recipe.quantizer is None else f"-{budget}"
    return f"{recipe.method}{bits}-seed{recipe.seed}"


def _remember(run: Any, run_id: str) -> None:
    _id_file(run).parent.mkdir(parents=True, exist_ok=True)
    _id_file(run).write_text(run_id)


def _parameters(client: Any, run_id: str, recipe: Any) -> None:
    from mlflow.entities import Param

    flat = flatten(recipe.to_dict())
    client.log_batch(run_id, params=[Param(key, str(value)[:LONGEST]) for key, value in flat.items()][:100])
    if len(flat) > 100:
        client.log_batch(run_id, params=[Param(key, str(value)[:LONGEST]) for key, value in flat.items()][100:200])


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists of components by their name."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            found |= flatten(value, here)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for each in value:
                rest = {k: v for k, v in each.items() if k != "name"}
                label = each.get("name", "?") + (
                    f"-{rest['convention']}" if rest.get("convention", "valid") != "valid" else ""
                )
                found |= flatten(rest, f"{here}.{label}") if rest else {f"{here}.{label}": "on"}
        else:
            found[here] = value
    return found


def metric_name(text: str) -> str:
    """MLflow takes letters, digits and _ - . / space."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in text)


def log_values(client: Any, run_id: str, values: Mapping[str, float | None], step: int = 0) -> None:
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    good = [
        Metric(metric_name(key), float(value), now, step)
        for key, value in values.items()
        if value is not None and value == value
    ]
    for first in range(0, len(good), 500):
        client.log_batch(run_id, metrics=good[first : first + 500])


def epoch(run: Any, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    run_id = _run_id(run)
    if run_id is not None:
        log_values(
            client_of(run.recipe), run_id, {f"{stage}/{name}": value for name, value in values.items()}, step=epoch
        )


def finish(run: Any, report: Mapping[str, Any]) -> None:
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


def final_values(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Final metrics: value, interval ends and each group's value; change against full precision; bits; bytes."""
    found: dict[str, float | None] = {
        "average_bits": report["bits"]["average"], "artifact_bytes": report["artifact"]["bytes"],
    }  # fmt: skip
    for label, metric in report["metrics"].items():
        found[label] = metric["value"]
        found[f"{label}/low"], found[f"{label}/high"] = metric["low"], metric["high"]
        found |= {f"{label}/{group}": value for group, value in metric["by_group"].items()}
        found[f"baseline/{label}"] = report["baseline"]["metrics"][label]["value"]
    for name, change in report["change"].items():
        found[f"change/{name}"] = change["value"]
        found |= {f"change/{name}/{group}": value["value"] for group, value in change["by_group"].items()}
    return found


def fail(run: Any, error: BaseException) -> None:
    run_id = _run_id(run)
    if run_id is not None:
        client = client_of(run.recipe)
        client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:LONGEST])
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
