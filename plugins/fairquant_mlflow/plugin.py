"""The hooks. MLflow is imported when the first run starts, and only where the recipe names a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairquant.registry import hookimpl

if TYPE_CHECKING:
    from fairquant.recipe.events import ComparisonInfo, Report, RunInfo, StudyInfo


def _tracks(source: RunInfo | ComparisonInfo | StudyInfo) -> bool:
    return source.recipe.tracking.mlflow is not None


@hookimpl
def fairquant_run_started(run: RunInfo) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener, patience

        (run.folder / patience.SLOW).unlink(missing_ok=True)
        store = run.recipe.tracking.mlflow or ""
        patience.within(patience.START, store, "the run", lambda: listener.start(run))


@hookimpl
def fairquant_epoch_finished(run: RunInfo, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener, patience

        if patience.is_slow(run.folder):
            return
        store = run.recipe.tracking.mlflow or ""
        try:
            patience.within(patience.EPOCH, store, "an epoch", lambda: listener.epoch(run, stage, epoch, values))
        except Exception:
            patience.mark_slow(run.folder)  # one warning; the results are logged at the end all the same
            raise


@hookimpl
def fairquant_run_finished(run: RunInfo, report: Report) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener, patience

        store = run.recipe.tracking.mlflow or ""
        patience.within(patience.RESULTS, store, "the results", lambda: listener.finish(run, report))


@hookimpl
def fairquant_run_failed(run: RunInfo, error: BaseException) -> None:
    if _tracks(run):
        from fairquant_mlflow import listener, patience

        store = run.recipe.tracking.mlflow or ""
        patience.within(patience.EPOCH, store, "the failure", lambda: listener.fail(run, error))


@hookimpl
def fairquant_comparison_started(comparison: ComparisonInfo) -> None:
    if _tracks(comparison):
        from fairquant_mlflow import parents

        parents.start(comparison, "comparison")


@hookimpl
def fairquant_comparison_finished(comparison: ComparisonInfo, folders: Sequence[Path]) -> None:
    if _tracks(comparison):
        from fairquant_mlflow import parents

        parents.finish(comparison, "comparison", folders)


@hookimpl
def fairquant_study_started(study: StudyInfo) -> None:
    if _tracks(study):
        from fairquant_mlflow import parents

        parents.start(study, "study")


@hookimpl
def fairquant_trial_finished(
    study: StudyInfo, number: int, state: str, folder: Path | None, values: Mapping[str, float]
) -> None:
    if _tracks(study):
        from fairquant_mlflow import trials

        trials.trial(study, number, state, folder, values)


@hookimpl
def fairquant_study_finished(study: StudyInfo, folders: Sequence[Path]) -> None:
    if _tracks(study):
        from fairquant_mlflow import parents

        parents.finish(study, "study", folders)
