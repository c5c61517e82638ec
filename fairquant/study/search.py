"""fairquant study: Optuna searches a recipe's `search` section; trials are ordinary runs that stop before the test images.

The planned trials are put into the storage's queue once, by whoever comes first. Workers, here or on other machines, take
them from there one by one until none is left; so each is run once, and what a dead worker had taken goes back.
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
from typing import Any

import numpy as np

from fairquant.files import write_atomically
from fairquant.pipeline import default_runs
from fairquant.recipe import Recipe
from fairquant.recipe.search import Parameter, Search
from fairquant.registry import Plugins, discover
from fairquant.runs import Display, Quiet
from fairquant.study.compare import ComparisonInfo as StudyInfo
from fairquant.study.storage import at_work, one_at_a_time, open_storage, open_study
from fairquant.study.summary import conclude
from fairquant.study.trials import RETRIED, Plan, encode_choice, read_base, run_trial
from fairquant.study.workers import begin

#: Seconds between a worker's signs of life in a database, and without one until its trial is handed on.
HEARTBEAT_SECONDS = (10, 30)


def search(
    recipe: str | os.PathLike[str], *overrides: str, trials: int | None = None, storage: str | None = None, jobs: int = 1,
    demo: bool = False, runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
    display: Display | None = None, on_trial: Callable[[Any], None] = lambda trial: None,
) -> Path:  # fmt: skip
    """Search, with `jobs` workers here; returns the study's folder, in which study.html and study.json lie in the end.

    Called again, or on another machine with the same storage, it joins in. Raises UserError where the recipe is not in
    order or has no search section.
    """
    plugins = discover() if plugins is None else plugins
    display = display or Quiet()
    base, section = read_base(recipe, overrides, demo, plugins)
    place = Path(runs) if runs is not None else default_runs()
    shown = f"{base.name}-demo" if demo else base.name
    folder = place / shown / f"study-{study_digest(base)}"
    count = trials if trials is not None else section.trials
    plan = Plan(str(recipe), tuple(overrides), demo, count, storage, str(place), folder)
    info = StudyInfo(base, folder, folder.name)
    with at_work(folder) as alone:
        with one_at_a_time(folder):
            write_atomically(folder / "study.json", json.dumps(plan.to_dict(), indent=1).encode())
            study = open_study(open_storage(storage, folder), plan.name, section, base.seed)
            enqueue(study, section, count)
            if alone and storage is None:
                take_back(study)  # a journal knows no heartbeat: what ran when the last worker here died
        for warning in plugins.notify("fairquant_study_started", study=info):
            display.say(f"warning: {warning}")
        if jobs > 1:
            _side_by_side(plan, jobs, base, study, on_trial)
        else:
            work(plan, section, plugins, display, on_trial)
    with one_at_a_time(folder):  # the last worker's word stands; the others find its runs finished
        conclude(plan, base, section, study, plugins, display)
    return folder


def study_digest(base: Recipe) -> str:
    """The same question has the same folder; asking for more trials of it is the same question."""
    asked = {key: value for key, value in base.search.items() if key not in ("trials",)}
    content = json.dumps([base.digest(), asked], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def enqueue(study: Any, section: Search, count: int) -> None:
    """Fill the queue up to `count` planned trials; a grid's points are planned whole."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    retried = RetryHeartbeatStaleTrialCallback.retried_trial_number
    planned = sum(
        "planned" in trial.user_attrs and retried(trial) is None for trial in study.get_trials(deepcopy=False)
    )
    points: list[dict[str, Any]] = [{}] * count
    if section.sampler == "grid":
        points = grid_points(section.parameters)
    for point in points[planned:]:
        study.enqueue_trial(point, user_attrs={"planned": True})


def grid_points(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Every combination of values, each once: parameters that do not apply are left out."""
    found: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*(parameter.choices for parameter in parameters)):
        point: dict[str, Any] = {}
        for parameter, value in zip(parameters, values, strict=True):
            if all(point.get(path) == wanted for path, wanted in parameter.when):
                point[parameter.path] = encode_choice(value)
        found.setdefault(json.dumps(point, sort_keys=True), point)
    return list(found.values())


def take_back(study: Any) -> None:
    """Trials that nobody works on any more go to the queue again, with the same values."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.params, user_attrs={RETRIED: trial.number})
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def work(
    plan: Plan, section: Search, plugins: Plugins, display: Display, on_trial: Callable[[Any], None],
) -> None:  # fmt: skip
    """Take trials from the queue until it is empty and nobody else's trial can come back to it."""
    import optuna

    waiting, running = optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING
    storage = open_storage(plan.storage, plan.folder, *HEARTBEAT_SECONDS)
    base, _ = read_base(plan.recipe, plan.overrides, plan.demo, plugins)
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
                lambda trial: run_trial(trial, plan, section, plugins, display), n_trials=1, catch=(Exception,),
                callbacks=[lambda _, trial: on_trial(trial)],
            )  # fmt: skip
        elif beats and study.get_trials(deepcopy=False, states=(running,)):
            time.sleep(1.0)  # another worker's: should it die, its trial comes back
        else:
            return


def _side_by_side(plan: Plan, jobs: int, base: Recipe, study: Any, on_trial: Callable[[Any], None]) -> None:
    """`jobs` processes on the same queue; this one looks on."""
    import optuna

    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    threads = max((os.cpu_count() or 1) // jobs, 1)
    workers = [context.Process(target=work_here, args=(plan, threads)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    told: set[int] = set()
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED)
    try:
        while True:
            alive = any(worker.is_alive() for worker in workers)
            for trial in study.get_trials(deepcopy=False, states=over):
                if trial.number not in told:
                    told.add(trial.number)
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
    begin(threads)
    plugins = discover()
    _, section = read_base(plan.recipe, plan.overrides, plan.demo, plugins)
    with at_work(plan.folder):
        work(plan, section, plugins, Quiet(), lambda trial: None)
