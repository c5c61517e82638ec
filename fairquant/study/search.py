"""fairquant study: Optuna searches a recipe's `search` section; trials are ordinary runs that stop before the test images.

The planned trials are put into the storage's queue once, by the first worker. Workers, here or on other machines, take
them from there one by one until none is left; so each is run once; the trial of a dead worker is queued again.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna

from fairquant.errors import Terminated, UserError
from fairquant.files import write_atomically
from fairquant.recipe import Recipe
from fairquant.recipe.events import StudyInfo
from fairquant.recipe.search import Parameter, Search
from fairquant.registry import Plugins, discover
from fairquant.runs.folder import Display, Quiet, default_runs
from fairquant.signals import terminating
from fairquant.study import queue
from fairquant.study.content import begin, content_of, folder_of
from fairquant.study.queue import OnTrial, Queue, side_by_side
from fairquant.study.storage import (
    make_sampler,
    one_at_a_time,
    open_storage,
    open_study,
    repair_journal,
    return_to_queue,
    worker_lock,
)
from fairquant.study.summary import finalize
from fairquant.study.trials import Plan, Worker, encode_choice, read_base, seed_of, suggest
from fairquant.study.workers import init_worker


def search(
    recipe: str | os.PathLike[str], *overrides: str, trials: int | None = None, storage: str | None = None, jobs: int = 1,
    patience: float = 300.0, demo: bool = False, runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
    display: Display | None = None, on_trial: OnTrial = lambda trial: None,
) -> Path:  # fmt: skip
    """Search, with `jobs` workers on this machine; returns the study's folder, which holds study.html and study.json.

    Called again, or on another machine with the same storage, it continues or joins the study. Raises UserError where the
    recipe is not valid or has no search section. (So many parameters: each is a user's.)
    """
    plugins = discover() if plugins is None else plugins
    display = display or Quiet()
    base, section = read_base(recipe, overrides, demo, plugins)
    place = Path(runs) if runs is not None else default_runs()
    shown = f"{base.name}-demo" if demo else base.name
    question = {key: value for key, value in base.search.items() if key != "trials"}  # their number may grow
    identity = content_of(base, question, plugins, display)
    folder = folder_of("study", place / shown, identity)
    begin(folder, identity, display)
    plan = Plan(
        recipe=str(recipe), overrides=tuple(overrides), demo=demo, storage=storage, runs=str(place), folder=folder,
        patience=patience, trials=trials if trials is not None else section.trials,
    )  # fmt: skip
    info = StudyInfo(base, folder, folder.name)
    with worker_lock(folder) as alone:
        study = _set_up(plan, base, section, alone)
        for warning in plugins.notify("fairquant_study_started", study=info):
            display.say(f"warning: {warning}")
        if jobs > 1:
            side_by_side(study, storage, jobs, work_here, (plan,), on_trial)
        else:
            work(Worker(plan=plan, base=base, search=section, plugins=plugins, display=display), on_trial)
    with one_at_a_time(folder):  # what the last worker writes stays; the others find its runs finished
        finalize(plan, base, section, study, plugins, display)
    return folder


def _set_up(plan: Plan, base: Recipe, section: Search, alone: bool) -> optuna.Study:
    """study.json, the study in its storage, and its queue; workers that share a disk do this one after the other."""
    with one_at_a_time(plan.folder):
        write_atomically(plan.folder / "study.json", json.dumps(plan.to_dict(), indent=1).encode())
        if alone and plan.storage is None:
            repair_journal(plan.folder)
        study = open_study(open_storage(plan.storage, plan.folder), plan.name, section, base.seed)
        enqueue(study, section, plan.trials, base.seed)
        if alone and plan.storage is None:
            return_to_queue(study)  # a journal has no heartbeat: what ran when the last worker here ended
    return study


def enqueue(study: optuna.Study, section: Search, count: int, seed: int) -> None:
    """Fill the queue up to `count` planned trials. What does not depend on results is drawn here, once: the points of a grid, random
    ones, and those of a low-discrepancy sequence."""
    planned = sum("planned" in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    points: list[dict[str, object]] = [{}] * count
    if section.sampler == "grid":
        points = grid_points(section.parameters)
    elif section.sampler in ("random", "qmc"):
        points = drawn_points(section, count, seed)
    for point in points[planned:]:
        study.enqueue_trial(point, user_attrs={"planned": True})


def drawn_points(section: Search, count: int, seed: int) -> list[dict[str, object]]:
    """The first `count` points of a sampler that does not look at results; more of them begin with the same."""
    directions = [objective.direction for objective in section.objectives]
    study = optuna.create_study(sampler=make_sampler(section, seed), directions=directions)
    points: list[dict[str, object]] = []
    for _ in range(count):
        trial = study.ask()
        suggest(trial, section.parameters)
        points.append(dict(trial.params))
        study.tell(trial, [0.0] * len(directions))
    return points


def grid_points(parameters: Sequence[Parameter]) -> list[dict[str, object]]:
    """Every combination of values, each once: parameters that do not apply are left out."""
    points: dict[str, dict[str, object]] = {}
    for values in itertools.product(*(parameter.choices for parameter in parameters)):
        point: dict[str, object] = {}
        for parameter, value in zip(parameters, values, strict=True):
            if all(point.get(path) == wanted for path, wanted in parameter.when):
                point[parameter.path] = encode_choice(value)
        points.setdefault(json.dumps(point, sort_keys=True), point)
    return list(points.values())


def work(worker: Worker, on_trial: OnTrial) -> None:
    """Take trials from the queue until it is empty and no other worker's trial can return to it."""
    plan, section, base = worker.plan, worker.search, worker.base
    study = open_study(open_storage(plan.storage, plan.folder, *queue.HEARTBEAT_SECONDS), plan.name, section, base.seed)

    def renew_sampler(number: int) -> None:
        study.sampler = make_sampler(section, seed_of(base.seed, number))

    Queue(
        study=study, database=plan.storage, folder=plan.folder, patience=plan.patience, display=worker.display,
        perform=worker.run_trial, on_trial=on_trial, before=renew_sampler,
    ).work()  # fmt: skip


def work_here(plan: Plan, threads: int) -> None:
    """One worker process of a study."""
    init_worker(threads)
    plugins = discover()
    base, section = read_base(plan.recipe, plan.overrides, plan.demo, plugins)
    try:
        with terminating(), worker_lock(plan.folder):
            work(Worker(plan=plan, base=base, search=section, plugins=plugins, display=Quiet()), lambda trial: None)
    except (KeyboardInterrupt, Terminated):
        os._exit(143)  # its trial goes back to the queue
    except UserError as error:
        print(f"fairquant: error: {error.render()}", file=sys.stderr)
        os._exit(2)
