"""The hooks of FairQuant: one to register components, the others to listen to runs, comparisons and studies. pluggy carries them.

A plugin is a module named by an entry point of the group `fairquant`:

    from fairquant.registry import hookimpl

    @hookimpl
    def fairquant_register(registry):
        registry.add("metric", "jain-index", "my_package.metrics:JainIndex")

Listeners take any of the named arguments, return nothing, and may be many. One that raises is named in a
warning and the run continues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from fairquant.recipe.events import ComparisonInfo, Report, RunInfo, StudyInfo
    from fairquant.registry.registry import Registrar
    from fairquant.roles import BitPlan, GroupImportance

hookspec = pluggy.HookspecMarker("fairquant")
hookimpl = pluggy.HookimplMarker("fairquant")


@hookspec
def fairquant_register(registry: Registrar) -> None:
    """Register components with `registry.add(role, name, "module:Class", summary)`. Import nothing heavy here."""


@hookspec
def fairquant_run_started(run: RunInfo) -> None:
    """The run's folder exists and its recipe is resolved."""


@hookspec
def fairquant_importance_done(run: RunInfo, importance: GroupImportance) -> None:
    """The GroupImportance of the baseline model has been measured."""


@hookspec
def fairquant_plan_made(run: RunInfo, plan: BitPlan) -> None:
    """The allocator has spent the budget: the starting BitPlan."""


@hookspec
def fairquant_epoch_finished(run: RunInfo, stage: str, epoch: int, values: Mapping[str, float]) -> None:
    """An epoch of `stage` ("baseline" or "quantized") is over; `values` are losses, bits and validation metrics."""


@hookspec
def fairquant_run_finished(run: RunInfo, report: Report) -> None:
    """Everything is written: report.json (given), the page, the plan and the artifact are in run.folder."""


@hookspec
def fairquant_run_failed(run: RunInfo, error: BaseException) -> None:
    """The run stopped with an error or was interrupted; its checkpoints stay and it can be resumed."""


@hookspec
def fairquant_comparison_started(comparison: ComparisonInfo) -> None:
    """`fairquant compare` begins: its recipe, its folder and its name."""


@hookspec
def fairquant_comparison_finished(comparison: ComparisonInfo, folders: Sequence[Path]) -> None:
    """All runs are over: `folders` are those of the finished ones; compare.json and the rest are in comparison.folder."""


@hookspec
def fairquant_study_started(study: StudyInfo) -> None:
    """A worker of `fairquant study` begins: the recipe, the study's folder and its name. Called once per worker."""


@hookspec
def fairquant_trial_finished(
    study: StudyInfo, number: int, state: str, folder: Path | None, values: Mapping[str, float]
) -> None:
    """A trial is over: state "complete", "pruned" or "failed"; `values` are its quantities on validation."""


@hookspec
def fairquant_study_finished(study: StudyInfo, folders: Sequence[Path]) -> None:
    """The search is over and its best trials are tested: `folders` are theirs; study.html is in study.folder."""
