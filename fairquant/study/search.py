"""fairquant study: Optuna searches a recipe's `search` section; trials are ordinary runs that stop before the test images.

The planned trials are put into the storage's queue once, by the first worker. Workers, here or on other machines, take
them from there one by one until none is left; so each is run once; the trial of a dead worker is queued again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback

from fairquant.files import write_atomically
from fairquant.recipe import Recipe
from fairquant.recipe.events import StudyInfo
from fairquant.recipe.search import Parameter, Search
from fairquant.registry import Plugins, discover
from fairquant.runs.folder import Display, Quiet, default_runs
from fairquant.study.storage import one_at_a_time, open_storage, open_study, worker_lock
from fairquant.study.summary import finalize
from fairquant.study.trials import RETRIED, Plan, Worker, encode_choice, read_base
from fairquant.study.workers import init_worker

#: Seconds between a worker's signs of life in a database, and without one until its trial is handed on.
HEARTBEAT_SECONDS = (10, 30)
OnTrial = Callable[[optuna.trial.FrozenTrial], None]


def search(
    recipe: str | os.PathLike[str], *overrides: str, trials: int | None = None, storage: str | None = None, jobs: int = 1,
    demo: bool = False, runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
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
    folder = place / shown / f"study-{study_digest(base)}"
    plan = Plan(
        recipe=str(recipe), overrides=tuple(overrides), demo=demo, storage=storage, runs=str(place), folder=folder,
        trials=trials if trials is not None else section.trials,
    )  # fmt: skip
    info = StudyInfo(base, folder, folder.name)
    with worker_lock(folder) as alone:
        study = _set_up(plan, base, section, alone)
        for warning in plugins.notify("fairquant_study_started", study=info):
            display.say(f"warning: {warning}")
        if jobs > 1:
            _side_by_side(plan, jobs, study, on_trial)
        else:
            work(Worker(plan=plan, base=base, search=section, plugins=plugins, display=display), on_trial)
    with one_at_a_time(folder):  # what the last worker writes stays; the others find its runs finished
        finalize(plan, base, section, study, plugins, display)
    return folder


def _set_up(plan: Plan, base: Recipe, section: Search, alone: bool) -> optuna.Study:
    """study.json, the study in its storage, and its queue; workers that share a disk do this one after the other."""
    with one_at_a_time(plan.folder):
        write_atomically(plan.folder / "study.json", json.dumps(plan.to_dict(), indent=1).encode())
        study = open_study(open_storage(plan.storage, plan.folder), plan.name, section, base.seed)
        enqueue(study, section, plan.trials)
        if alone and plan.storage is None:
            requeue_stale(study)  # a journal has no heartbeat: what ran when the last worker here ended
    return study


def study_digest(base: Recipe) -> str:
    """The same settings have the same folder; the number of trials does not count."""
    question = {key: value for key, value in base.search.items() if key not in ("trials",)}
    content = json.dumps([base.digest(), question], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def enqueue(study: optuna.Study, section: Search, count: int) -> None:
    """Fill the queue up to `count` planned trials; a grid's points are planned whole."""
    retried = RetryHeartbeatStaleTrialCallback.retried_trial_number
    planned = sum(
        "planned" in trial.user_attrs and retried(trial) is None for trial in study.get_trials(deepcopy=False)
    )
    points: list[dict[str, object]] = [{}] * count
    if section.sampler == "grid":
        points = grid_points(section.parameters)
    for point in points[planned:]:
        study.enqueue_trial(point, user_attrs={"planned": True})


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


def requeue_stale(study: optuna.Study) -> None:
    """Queue the trials of dead workers again, with the same values."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.params, user_attrs={RETRIED: trial.number})
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def work(worker: Worker, on_trial: OnTrial) -> None:
    """Take trials from the queue until it is empty and no other worker's trial can return to it."""
    plan, section, base = worker.plan, worker.search, worker.base
    waiting, running = optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING
    storage = open_storage(plan.storage, plan.folder, *HEARTBEAT_SECONDS)
    alone = plan.storage is None and multiprocessing.parent_process() is None
    study = open_study(storage, plan.name, section, base.seed)
    begun = len(study.get_trials(deepcopy=False)) - len(study.get_trials(deepcopy=False, states=(waiting,)))
    if begun or not alone:  # a sampler that starts with a seed used before would draw the same values again
        draw = np.random.SeedSequence([base.seed, begun, 0 if alone else int.from_bytes(os.urandom(8), "big")])
        study = open_study(storage, plan.name, section, int(draw.generate_state(1)[0]))
    beats = plan.storage is not None
    while True:
        if beats:
            optuna.storages.fail_stale_trials(study)
        if study.get_trials(deepcopy=False, states=(waiting,)):
            study.optimize(
                worker.run_trial, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: on_trial(trial)]
            )
        elif beats and study.get_trials(deepcopy=False, states=(running,)):
            time.sleep(1.0)  # another worker's: should it die, its trial comes back
        else:
            return


def _side_by_side(plan: Plan, jobs: int, study: optuna.Study, on_trial: OnTrial) -> None:
    """`jobs` worker processes on the same queue; this one waits for them."""
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threads = max((os.cpu_count() or 1) // jobs, 1)
    workers = [context.Process(target=work_here, args=(plan, threads)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    reported: set[int] = set()
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED)
    try:
        while True:
            alive = any(worker.is_alive() for worker in workers)
            for trial in study.get_trials(deepcopy=False, states=over):
                if trial.number not in reported:
                    reported.add(trial.number)
                    on_trial(trial)
            if not alive:
                return
            time.sleep(0.5)
    except KeyboardInterrupt:
        for worker in workers:
            worker.terminate()
        raise


def work_here(plan: Plan, threads: int) -> None:
    """One worker process of a study."""
    init_worker(threads)
    plugins = discover()
    base, section = read_base(plan.recipe, plan.overrides, plan.demo, plugins)
    with worker_lock(plan.folder):
        work(Worker(plan=plan, base=base, search=section, plugins=plugins, display=Quiet()), lambda trial: None)
