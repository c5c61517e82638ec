"""What a run logs: parameters, metrics per epoch and final ones by group, its data set, its model, and what it was judged.

The MLflow run's id is stored in the run's folder, so that a resumed run continues the same MLflow run. Where the store
cannot be reached at the start of a run, no id is stored: there is one warning and no further attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.data.in_memory import IN_MEMORY
from fairquant.errors import Terminated
from fairquant.recipe.events import Report, RunInfo
from fairquant.recipe.schema import Recipe
from fairquant_mlflow import machine
from fairquant_mlflow.inputs import log_dataset
from fairquant_mlflow.judged import description, limits
from fairquant_mlflow.models import log_model
from fairquant_mlflow.store import LONGEST, About, client_of, experiment_of, log_values, origin, safe_name
from fairquant_mlflow.values import final_values, flatten

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ID_FILE = Path("checkpoints") / "mlflow-run"
FILES = ("report.html", "report.json", "README.md", "bit_plan.csv", "recipe.yaml", "model.safetensors")


def run_id_in(folder: Path) -> str | None:
    """The MLflow run of a run's folder; None where it is not tracked."""
    try:
        return (folder / ID_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def start(run: RunInfo) -> None:
    """Open or reopen the MLflow run; watch the machine where the recipe asks for it.

    Raises ConnectionError where the store cannot be reached and ImportError where system metrics need another package;
    the engine reports them as warnings.
    """
    client = client_of(run.recipe)
    run_id, resumed = _reopened(client, run), True
    if run_id is None:
        run_id, resumed = _opened(client, run), False
    _store_id(run, run_id)
    if run.recipe.tracking.system_metrics:
        machine.watch(run_id, client.tracking_uri, resumed)


def _reopened(client: MlflowClient, run: RunInfo) -> str | None:
    """The MLflow run of the interrupted run; None where there is none, or only in another store."""
    previous = run_id_in(run.folder)
    (run.folder / ID_FILE).unlink(missing_ok=True)
    if previous is not None:
        try:
            client.set_terminated(previous, "RUNNING")
        except Exception:
            return None
    return previous


def _opened(client: MlflowClient, run: RunInfo) -> str:
    recipe = run.recipe
    try:
        experiment_id = experiment_of(client, recipe)
        tags = {
            "mlflow.runName": run_name(recipe), "method": recipe.method, "seed": str(recipe.seed),
            "recipe": recipe.name, "demo": str(recipe.demo).lower(), "folder": str(run.folder), **origin(_source(run)),
        }  # fmt: skip
        run_id: str = client.create_run(experiment_id, tags=tags).info.run_id
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"MLflow at {recipe.tracking.mlflow!r} cannot be reached, this run is not tracked: {reason}"
        ) from None
    try:
        _log_parameters(client, run_id, recipe)
    except Exception as error:
        client.set_terminated(run_id, "FAILED")
        raise ConnectionError(
            f"MLflow at {recipe.tracking.mlflow!r} refuses the parameters of this run, which is not tracked: "
            f"{str(error).splitlines()[0]}"
        ) from None
    return run_id


def _source(run: RunInfo) -> str:
    """What made the run: the resolved recipe, which can be run again, or the function that was called."""
    return "fairquant.quantize" if run.recipe.dataset.name == IN_MEMORY else str(run.folder / "recipe.yaml")


def run_name(recipe: Recipe) -> str:
    """Readable, and different for the runs of a comparison: fq-baq-3bit-seed0, fp32-seed0."""
    budget = str(recipe.budget).replace(" bits", "bit").replace(" and ", "-").replace(" BOPs", "BOPs")
    bits = "" if recipe.quantization is None else f"-{budget}"
    return f"{recipe.method}{bits}-seed{recipe.seed}"


def _store_id(run: RunInfo, run_id: str) -> None:
    (run.folder / ID_FILE).parent.mkdir(parents=True, exist_ok=True)
    (run.folder / ID_FILE).write_text(run_id, encoding="utf-8")


def _log_parameters(client: MlflowClient, run_id: str, recipe: Recipe) -> None:
    from mlflow.entities import Param

    params = [Param(safe_name(key), str(value)[:LONGEST]) for key, value in flatten(recipe.to_dict()).items()]
    for first in range(0, len(params), 100):  # MLflow accepts 100 parameters per call
        client.log_batch(run_id, params=params[first : first + 100])


def epoch(run: RunInfo, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    """Log the values of an epoch under the name of their stage."""
    run_id = run_id_in(run.folder)
    if run_id is not None:
        named = {f"{stage}/{name}": value for name, value in values.items()}
        log_values(client_of(run.recipe), run_id, named, step=epoch)


def finish(run: RunInfo, report: Report) -> None:
    """Log what the run ends with, and close the MLflow run."""
    run_id = run_id_in(run.folder)
    if run_id is None:
        return
    machine.stop(run_id)
    client = client_of(run.recipe)
    try:
        _log_results(client, run_id, run, report)
    except Exception:  # the engine warns; a run that has ended is not left running
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _log_results(client: MlflowClient, run_id: str, run: RunInfo, report: Report) -> None:
    tags = {
        "dataset.fingerprint": report["dataset"]["fingerprint"], "dataset.name": report["dataset"]["name"],
        "mlflow.note.content": description(report), "accept": report["accept"]["answer"],
        **{f"version.{name}": number for name, number in report["versions"].items()},
    }  # fmt: skip
    for name, text in tags.items():
        client.set_tag(run_id, name, text)
    dataset = log_dataset(client, run_id, run.recipe, report["dataset"])
    model = log_model(client, run_id, run.folder / "model.safetensors", report)
    log_values(client, run_id, {**final_values(report), **limits(report)}, about=About(dataset, model))
    for file in (name for name in FILES if (run.folder / name).exists()):
        client.log_artifact(run_id, str(run.folder / file))


def fail(run: RunInfo, error: BaseException) -> None:
    """Log the error and close the MLflow run as failed, or as killed where the user interrupted it."""
    run_id = run_id_in(run.folder)
    if run_id is not None:
        machine.stop(run_id)
        client = client_of(run.recipe)
        client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:LONGEST])
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt | Terminated) else "FAILED")
