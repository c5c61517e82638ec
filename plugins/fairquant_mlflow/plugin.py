"""The hooks. MLflow itself is imported when the first run starts, and only where the recipe names a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairquant.registry import hookimpl


def _tracks(run: Any) -> bool:
    return run.recipe.tracking.mlflow is not None


@hookimpl
def fairquant_run_started(run: Any) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener

        listener.start(run)


@hookimpl
def fairquant_epoch_finished(run: Any, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener

        listener.epoch(run, stage, epoch, values)


@hookimpl
def fairquant_run_finished(run: Any, report: Mapping[str, Any]) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener

        listener.finish(run, report)


@hookimpl
def fairquant_run_failed(run: Any, error: BaseException) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener

        listener.fail(run, error)


@hookimpl
def fairquant_comparison_started(comparison: Any) -> None:
    if _tracks(comparison):
        from fairquant_mlflow import parents

        parents.start(comparison, "comparison")


@hookimpl
def fairquant_comparison_finished(comparison: Any, folders: Sequence[Path]) -> None:
    if _tracks(comparison):
        from fairquant_mlflow import parents

        parents.finish(comparison, "comparison", folders)


@hookimpl
def fairquant_study_started(study: Any) -> None:
    if _tracks(study):
        from fairquant_mlflow import parents

        parents.start(study, "study")


@hookimpl
def fairquant_trial_finished(
    study: Any, number: int, state: str, folder: Path | None, values: Mapping[str, float]
) -> None:
    if _tracks(study):
        from fairquant_mlflow import parents

        parents.trial(study, number, state, folder, values)


@hookimpl
def fairquant_study_finished(study: Any, folders: Sequence[Path]) -> None:
    if _tracks(study):
        from fairquant_mlflow import parents

        parents.finish(study, "study", folders)
