"""The MLflow store: its client, the experiment of a recipe, and how values are written to a run."""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.files import absolute_database
from fairquant.recipe.schema import Recipe

if TYPE_CHECKING:
    from mlflow.entities import Dataset
    from mlflow.tracking import MlflowClient

LONGEST = 6_000  # characters of a parameter or tag that MLflow accepts
MOST_LETTERS = 240  # of a name
#: Letters that MLflow does not accept in names, as words.
SPELLED = {"<": "below ", ">": "above ", "=": "is ", "+": " and more", "%": " percent", "*": "any"}

#: By default MLflow shows no metrics. A shared view of our own, stored in the experiment, selects the columns that matter;
#: `fairquant ui` prints the address that opens it.
VIEW = "mlflow.sharedViewState.fairquant"
COLUMNS = {
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("accuracy", "worst-group-accuracy", "accuracy-gap")),
        *(f"metrics.`validation/{name}`" for name in ("accuracy", "worst-group-accuracy")),
        *(f"metrics.`{name}`" for name in ("average_bits", "artifact_bytes")),
        *(f"tags.`{name}`" for name in ("accept", "method", "state")),
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
    os.environ.setdefault(
        "MLFLOW_DISABLE_TELEMETRY", "true"
    )  # nothing is reported about patients' data, however little
    import logging

    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # importing mlflow makes these loggers verbose
        logging.getLogger(name).setLevel(logging.ERROR)

    assert recipe.tracking.mlflow is not None
    return MlflowClient(tracking_uri=absolute_database(recipe.tracking.mlflow))


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


def safe_name(text: str) -> str:
    """The name of a metric or parameter as MLflow accepts it: letters, digits and _ - . / space, at most MOST_LETTERS, and no path
    that leads elsewhere. What has to be changed ends in a digest of the text, so that no two names become one."""
    spelled = "".join(SPELLED.get(letter, letter if letter.isalnum() or letter in "_-./ " else "_") for letter in text)
    if posixpath.normpath(spelled) != spelled or spelled.startswith(("/", "..")):
        spelled = spelled.replace("/", " ").replace("..", "_")
    if spelled == text and len(text) <= MOST_LETTERS:
        return text
    return f"{spelled[: MOST_LETTERS - 9].strip()} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class About:
    """What values were measured on and of: MLflow shows them with the data set and with the logged model."""

    dataset: Dataset
    model_id: str | None


def log_values(
    client: MlflowClient, run_id: str, values: Mapping[str, float | None], step: int = 0, about: About | None = None
) -> None:
    """Log the values that are numbers (neither None nor NaN) as metrics."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    known = {} if about is None else {
        "model_id": about.model_id, "dataset_name": about.dataset.name, "dataset_digest": about.dataset.digest,
    }  # fmt: skip
    metrics = [
        Metric(safe_name(key), float(value), now, step, **known)
        for key, value in values.items()
        if value is not None and not math.isnan(value)
    ]
    for first in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[first : first + 500])


def origin(source: str) -> dict[str, str]:
    """Tags that say what made a run, and who."""
    import getpass

    tags = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    try:
        return tags | {"mlflow.user": getpass.getuser()}
    except (OSError, KeyError):  # a container whose user has no name
        return tags
