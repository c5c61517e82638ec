"""The Python interface behind `fairquant.run` and `fairquant.quantize`."""

from __future__ import annotations

import errno
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from fairquant.artifact import load
from fairquant.artifact.own_module import (
    answer_of,
    answer_with_logits,
    are_probabilities,
    check_storable,
    copied,
    first_logits,
    fold,
)
from fairquant.data.describe import cells_text, leaks
from fairquant.data.in_memory import (
    IN_MEMORY,
    InMemoryDataset,
    Labelled,
    given_splits,
    in_memory_notes,
    in_memory_splits,
)
from fairquant.data.ranks import barrier, init_process_group, is_alone, is_leader, leader_first
from fairquant.data.transforms import Normalization
from fairquant.data.unlabelled import OWN_ANSWERS, Unlabelled
from fairquant.errors import MachineFailed, RunBusy, Terminated, UserError
from fairquant.files import folder_lock, is_locked, remove_temporary, write_atomically
from fairquant.recipe import Recipe, read_recipe, recipe_from
from fairquant.recipe.events import Report
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import ModelSettings
from fairquant.registry import Plugins, discover
from fairquant.registry.contained import described
from fairquant.report.write import VALIDATION_ONLY, encoded, recipe_yaml, write_results, write_validation_only
from fairquant.roles import Splits
from fairquant.runs.data import load_data, missing_data
from fairquant.runs.folder import (
    Display,
    Quiet,
    Run,
    default_runs,
    finished_report,
    log_file,
    other_versions,
    run_folder,
)
from fairquant.runs.identity import holds_run, identity_of, place_of, read_identity, unfit, write_identity
from fairquant.runs.models import model_problems, recipe_model
from fairquant.runs.pipeline import ROUNDING, run_pipeline
from fairquant.runs.plugin_errors import plugin_failure
from fairquant.runs.process_state import outside_autocast
from fairquant.runs.results import Results
from fairquant.runs.source import network_digest
from fairquant.runs.training import CHECKPOINT
from fairquant.training.checkpoints import state_digest
from fairquant.training.devices import choose_device
from fairquant.training.model import Model

#: Errors of the machine, whoever meets them: a full or broken disk.
MACHINES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


@dataclass(frozen=True)
class RunResult:
    """A finished run: its report (report.json's content), its folder, and whether it had been finished before."""

    report: Report
    folder: Path
    was_finished: bool = False

    def load(self, model: nn.Module | None = None) -> nn.Module:
        """The quantized model, ready to use."""
        return load(self.folder / "model.safetensors", model)


def run(
    recipe: str | os.PathLike[str] | Recipe, *overrides: str, demo: bool = False,
    runs: str | os.PathLike[str] | None = None, display: Display | None = None, plugins: Plugins | None = None,
    wait: bool = False,
) -> RunResult:  # fmt: skip
    """Run a recipe: fairquant.run("recipes/quickstart.yaml", "seed=7"). Resumes an interrupted run; returns a finished one.

    wait: where another process works on this run, wait for it and return its result; otherwise RunBusy is raised.
    Raises UserError, naming every problem, where the recipe or the data are not valid.
    """
    plugins = discover() if plugins is None else plugins
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides, registry=plugins.registry, demo=demo)
    missing = [*missing_data(recipe, plugins.registry), *model_problems(recipe.model)]
    if missing:
        raise UserError(missing)
    place = Path(runs) if runs is not None else default_runs()
    return execute(recipe, plugins, place, display or Quiet(), wait=wait)


@dataclass(frozen=True)
class Given:
    """Data and model that a caller brings, in place of those that the recipe names."""

    splits: Splits
    model: Model


@dataclass(frozen=True)
class ValidationOnly:
    """A run that stops once validation is predicted: its report then has bits and bytes only.

    watch(stage, values) is called after each epoch and may stop the run by raising. opened(folder) is told where the run is.
    """

    watch: Callable[[str, Mapping[str, float]], None]
    opened: Callable[[Path], None] = lambda folder: None


@outside_autocast()
def execute(
    recipe: Recipe,
    plugins: Plugins,
    runs: Path,
    display: Display,
    given: Given | None = None,
    validation_only: ValidationOnly | None = None,
    wait: bool = False,
) -> RunResult:
    """Open the recipe's folder, run the pipeline and write its results. Finished runs are returned as they are. wait: see `run`."""
    init_process_group()
    opened = _open(recipe, plugins, runs, display, given)
    if validation_only is not None:
        opened = replace(opened, validation_only=True, watch=validation_only.watch)
        validation_only.opened(opened.folder)
    done = _finished(opened)
    barrier()
    if done is not None:
        return done
    with _locked(opened, wait) if is_leader() else nullcontext():
        if is_alone() and (done := _finished(opened)) is not None:
            return done  # by a process that was waited for
        barrier()
        opened.notify("fairquant_run_started")
        try:
            report = _run(opened, given)
        except BaseException as error:
            shown = _report_failure(error, opened)
            if shown is error:
                raise
            raise shown from error
        barrier()
        if not is_leader():
            report = finished_report(opened.folder) or report
        if validation_only is None:
            opened.notify("fairquant_run_finished", report=report)
            if is_leader():
                for checkpoint in (CHECKPOINT, ROUNDING):  # it is finished: nothing is left to resume
                    (opened.folder / checkpoint).unlink(missing_ok=True)
        return RunResult(report, opened.folder)


def _finished(run: Run) -> RunResult | None:
    """The result of an earlier run in the folder; None where there is none."""
    report = finished_report(run.folder)
    if report is None and run.validation_only:
        report = finished_report(run.folder, VALIDATION_ONLY)
    if report is None:
        return None
    if problem := unfit(report, run):
        run.display.say(f"{run.folder}: {problem}: the run is done again")
        return None
    if is_leader() and (others := other_versions(report, run.plugins)):
        run.display.say(f"{run.folder}: finished with {others}. Remove the folder to run it again")
    return RunResult(report, run.folder, was_finished=True)


def _open(recipe: Recipe, plugins: Plugins, runs: Path, display: Display, given: Given | None) -> Run:
    """Load the data where they are not given, and find the folder of this recipe with this content."""
    start = time.perf_counter()
    if given is None:
        with leader_first():
            splits = load_data(recipe, display if is_leader() else Quiet(), plugins.registry)
    else:
        splits = given.splits
    seconds = time.perf_counter() - start
    identity = identity_of(recipe, splits, plugins)
    folder, changed = place_of(recipe, runs, identity)
    if not is_leader():
        plugins, display = plugins.silent(), Quiet()
    if changed:
        display.say(
            f"{run_folder(recipe, runs)} holds a run of other content: {changed}. This run goes to {folder.name}"
        )
    return Run(
        recipe=recipe, folder=folder, runs=runs, plugins=plugins, display=display, splits=splits, identity=identity,
        timings={"data": seconds},
    )  # fmt: skip


def _run(run: Run, given: Given | None) -> Report:
    """Run the pipeline and write the results; returns the report."""
    recipe, splits = run.recipe, run.splits
    run.log(f"data: {run.timings['data']:.1f} s")
    for note in (*run.plugins.problems, *recipe.notes, *splits.notes, *leaks(recipe, splits)):
        run.say(note)
    run.log(table := cells_text(splits))
    run.display.say(table)
    model = recipe_model(recipe, run, splits) if given is None else given.model
    results = run_pipeline(recipe, run, splits, model)
    if isinstance(results, Results):
        return write_results(recipe, run, results)
    # a trial's report has only the keys that a study reads; on ranks that do not write there is none yet
    return cast(Report, {} if results is None else write_validation_only(run, results))


@contextmanager
def _locked(run: Run, wait: bool) -> Iterator[None]:
    """The folder's lock and its log; what it is made for is written first. RunBusy where another process holds it and is not
    to be waited for, or has begun something else in it in the meantime."""
    folder = run.folder
    if wait and is_locked(folder):
        run.display.say(f"waiting for another process that works on {folder}")
    with folder_lock(folder, blocking=wait), log_file(folder):
        remove_temporary(folder)
        if holds_run(folder) and read_identity(folder) != run.identity:
            raise RunBusy(f"{folder}: another process has begun a run of other content here. Give the command again")
        if not (folder / "report.json").exists():
            write_identity(folder, run.identity)
            write_atomically(folder / "recipe.yaml", encoded(recipe_yaml(run.recipe)))
        yield


def _report_failure(error: BaseException, run: Run) -> BaseException:
    """Log what stopped the run and notify its listeners; returns the error that the user is to see."""
    run.log(f"stopped: {described(error)}")
    if not isinstance(error, KeyboardInterrupt | Terminated):
        run.log("".join(traceback.format_exception(error)))
    run.notify("fairquant_run_failed", error=error)
    failure = plugin_failure(error, run.recipe, run.plugins.registry)
    if isinstance(error, OSError) and not isinstance(error, UserError) and (failure is None or error.errno in MACHINES):
        return MachineFailed(f"{error.filename or run.folder}: {error.strerror or error}. The run can be resumed")
    return failure or error


@outside_autocast()
def quantize(
    model: nn.Module, train: Labelled | None = None, validation: Labelled | None = None, test: Labelled | None = None, *,
    calibration: Unlabelled | Iterable[object] | None = None, average_bits: float = 4.0, method: str | None = None,
    group_names: Sequence[str] | None = None, class_names: Sequence[str] | None = None,
    overrides: Sequence[str] = (), seed: int = 0, name: str = "quantize",
    runs: str | os.PathLike[str] | None = None, display: Display | None = None,
) -> RunResult:  # fmt: skip
    """Quantize any trained nn.Module on any data sets of (image, label, group).

    train, validation, test: anything with len() and [i] -> (float tensor [3, H, W] ready for the model, int, int).
    Without `test` the audit is on validation, and says so. calibration: images without labels, or (image, group), in a data set,
    a list, a tensor [N, 3, H, W] or a DataLoader of images alone, in place of `train` and, where there is none, of `validation`:
    labels are then the model's own answers, on which a method that trains is trained. method: "fq-baq" where there is `train`,
    "fq-gptq-ptq" otherwise. The model is its own full-precision baseline and is not changed. overrides: recipe keys, such as
    "train.epochs=5". Returns the report, the folder, and .load(model).
    Raises UserError for items of another form and for names that are too few. (So many parameters: each is a user's.)
    """
    plugins = discover()
    network, shown = _copy(model), f"{type(model).__module__}.{type(model).__qualname__}"
    check_storable(network)
    method = method or ("fq-gptq-ptq" if train is None else "fq-baq")
    data, notes = given_splits(train, validation, test, calibration, partial(answer_of, network))
    first = data["train"].images[0]
    logits = first_logits(network, first)
    splits = in_memory_splits(data, logits.shape[1], class_names, group_names)
    doubts = in_memory_notes(data, splits)
    own_answers = validation is None and test is None
    if own_answers:
        doubts.insert(0, OWN_ANSWERS)
    if are_probabilities(logits):
        doubts.append(
            "the model's outputs are probabilities: logits are expected, of which softmax is taken here. Leave the model's softmax out"
        )
    if display is None:  # nobody sees what a run says
        for doubt in doubts:
            warnings.warn(doubt, stacklevel=3)
    notes += doubts
    if folded := fold(network):
        notes.append(f"weights that were computed from others are replaced by their values: {', '.join(folded)}")
    answer_with_logits(network)
    recipe = recipe_from(
        {"seed": seed, "method": method, "dataset": {"name": "synthetic-lesions"}, "budget": {"average_bits": average_bits},
         "train": {"epochs": 5, "learning_rate": 1e-4, "augment": "none"}, "baseline": {"epochs": 0}},
        [*overrides, f"method={method}"], registry=plugins.registry, source="fairquant.quantize", name=name,
    )  # fmt: skip
    dataset = Component(
        IN_MEMORY, InMemoryDataset(splits.fingerprint, f"{state_digest(network.state_dict())} {network_digest(model)}")
    )
    height, width = first.shape[-2:]
    shape = {} if height == width else {"image_shape": [height, width]}
    splits = replace(splits, notes=(*notes, *_about_training(recipe, train)))
    accept = () if own_answers else recipe.accept  # nothing about patients can be claimed
    recipe = replace(recipe, dataset=dataset, model=ModelSettings(name=shown, image_size=width), accept=accept)
    device = choose_device(recipe.train.device)
    own = Model(
        network=network.to(device), normalization=Normalization((0.0,) * 3, (1.0,) * 3), device=device,
        group_names=splits.group_names, class_names=splits.class_names,
        architecture={"source": "module", "class": shown, **shape}, trained=True,
    )  # fmt: skip
    place = Path(runs) if runs is not None else default_runs()
    return execute(recipe, plugins, place, display or Quiet(), Given(splits, own))


def _about_training(recipe: Recipe, train: Labelled | None) -> list[str]:
    """Said where a method that trains has no labels."""
    if train is not None or recipe.train.post_training:
        return []
    name = recipe.method
    return [f"method {name} trains on the model's own answers in place of labels; {name}-ptq does not train"]


def _copy(model: nn.Module) -> nn.Module:
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        warnings.warn("the model is quantized from float32; its parameters are converted", stacklevel=4)
    return copied(model).float()
