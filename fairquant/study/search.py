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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairquant.errors import Infeasible, Pruned, RunBusy, UserError
from fairquant.files import write_atomically
from fairquant.pipeline import default_runs
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.read import with_lists
from fairquant.recipe.search import Parameter, Search, override, read_search
from fairquant.registry import Plugins, discover
from fairquant.runs import Display, Quiet, run_folder
from fairquant.study.compare import ComparisonInfo as StudyInfo
from fairquant.study.storage import at_work, one_at_a_time, open_storage, open_study
from fairquant.study.workers import begin

RETRIED = "retried"
#: Seconds between a worker's signs of life in a database, and without one until its trial is handed on.
HEARTBEAT_SECONDS = (10, 30)


@dataclass(frozen=True)
class Plan:
    """What every worker of a study must know; it lies in the folder as study.json."""

    recipe: str
    overrides: tuple[str, ...]
    demo: bool
    trials: int
    storage: str | None
    runs: str
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("folder", "storage")}


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
    from fairquant.study.summary import conclude

    with one_at_a_time(folder):  # the last worker's word stands; the others find its runs finished
        conclude(plan, base, section, study, plugins, display)
    return folder


def read_base(
    recipe: str | os.PathLike[str], overrides: Sequence[str], demo: bool, plugins: Plugins
) -> tuple[Recipe, Search]:
    """The recipe with its search section; UserError where there is none or its data are missing."""
    base = read_recipe(recipe, overrides, registry=plugins.registry, demo=demo, searching=True)
    if not base.search:
        raise UserError(
            f"{recipe}: has no `search` section: say what to vary and what to seek, such as\n"
            "  search:\n    parameters: {budget.average_bits: {low: 1.0, high: 4.0}}\n"
            "    objectives: {worst-group-accuracy: maximize, bits: minimize}"
        )
    if missing := base.dataset.value.check():
        raise UserError(missing)
    section = read_search(base.search, tuple(component.label for component in base.metrics), [])
    assert section is not None
    return base, section


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
    study = open_study(storage, plan.name, section, base.seed + (0 if alone else os.getpid()))
    begun = len(study.get_trials(deepcopy=False)) - len(study.get_trials(deepcopy=False, states=(waiting,)))
    if begun:  # a sampler started again with the same seed would draw the same values again
        study = open_study(storage, plan.name, section, base.seed + begun + (0 if alone else os.getpid()))
    beats = plan.storage is not None
    while True:
        if beats:
            optuna.storages.fail_stale_trials(study)
        if study.get_trials(deepcopy=False, states=(waiting,)):
            study.optimize(
                lambda trial: _objective(trial, plan, section, plugins, display), n_trials=1, catch=(Exception,),
                callbacks=[lambda _, trial: on_trial(trial)],
            )  # fmt: skip
        elif beats and study.get_trials(deepcopy=False, states=(running,)):
            time.sleep(1.0)  # another worker's: should it die, its trial comes back
        else:
            return


def _objective(trial: Any, plan: Plan, section: Search, plugins: Plugins, display: Display) -> tuple[float, ...]:
    import optuna

    if not {"planned", RETRIED} & set(trial.user_attrs):
        trial.set_user_attr("superfluous", True)  # another worker took the last one first
        raise optuna.TrialPruned
    trial.set_user_attr("worker", os.getpid())
    overrides = [override(path, value) for path, value in suggest(trial, section.parameters).items()]
    trial.set_user_attr("overrides", overrides)
    try:
        values, facts = evaluate_trial(trial, plan, section, overrides, plugins, display)
    except Pruned:
        trial.set_user_attr("problem", "pruned: others were better at the same epoch")
        _tell(plugins, plan, trial, "pruned", {}, display)
        raise optuna.TrialPruned from None
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        what = "cannot meet the budget: " if isinstance(error, Infeasible) else kind
        trial.set_user_attr("problem", f"{what}{error}"[:500])
        _tell(plugins, plan, trial, "failed", {}, display)
        raise
    for constraint in section.constraints:
        base = facts.get(f"baseline/{constraint.quantity}")
        trial.set_constraint(constraint.text(), constraint.violation(facts[constraint.quantity], base))
    for name, value in facts.items():
        trial.set_user_attr(name, value)
    _tell(plugins, plan, trial, "complete", facts, display)
    return tuple(values)


def suggest(trial: Any, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Values for this trial; a conditional parameter only where its condition holds."""
    chosen: dict[str, Any] = {}
    for parameter in parameters:
        if any(chosen.get(path) != wanted for path, wanted in parameter.when):
            continue
        path = parameter.path
        if parameter.choices:
            encoded = [encode_choice(value) for value in parameter.choices]
            chosen[path] = parameter.choices[encoded.index(trial.suggest_categorical(path, encoded))]
        elif parameter.whole:
            step = int(parameter.step or 1)
            chosen[path] = trial.suggest_int(path, parameter.low, parameter.high, step=step, log=parameter.log)
        else:
            chosen[path] = trial.suggest_float(
                path, parameter.low, parameter.high, step=parameter.step, log=parameter.log
            )
    return chosen


def encode_choice(value: Any) -> Any:
    """Optuna's categories are numbers, text, truth values and None; lists and mappings become text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def evaluate_trial(
    trial: Any, plan: Plan, section: Search, overrides: Sequence[str], plugins: Plugins, display: Display
) -> tuple[list[float], dict[str, Any]]:
    """Run it as far as validation. (objective values, every quantity: label -> value, baseline/label, .../low, .../high)."""
    from fairquant.api import execute

    recipe = trial_recipe(plan, overrides, plugins)
    objective = section.objectives[0]

    def watch(stage: str, values: Mapping[str, float]) -> None:
        if section.pruner != "none" and stage == "quantized" and objective.quantity in values:
            watch.epoch += 1  # type: ignore[attr-defined]
            trial.report(values[objective.quantity], watch.epoch)  # type: ignore[attr-defined]
            if trial.should_prune():
                raise Pruned

    watch.epoch = 0  # type: ignore[attr-defined]
    trial.set_user_attr("folder", str(run_folder(recipe, Path(plan.runs))))
    while True:
        try:
            result = execute(recipe, plugins, Path(plan.runs), display, hold_test=True, watch=watch)
            break
        except RunBusy:  # another worker drew the same values: its result is ours
            time.sleep(1.0)
    facts = validation_facts(recipe, result.folder, result.report)
    return [facts[o.quantity] for o in section.objectives], facts


def trial_recipe(plan: Plan, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """The ordinary recipe of a trial."""

    def read(more: Sequence[str]) -> Recipe:
        return read_recipe(plan.recipe, [*plan.overrides, *more], registry=plugins.registry, demo=plan.demo)

    names = [each for each in overrides if each.split("=")[0].split(".")[-1] in ("name", "method")]
    base = read(names)  # lists are changed in the method's own form
    return read(with_lists(base, overrides)).with_(search={})


def validation_facts(recipe: Recipe, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Every metric on validation with its interval, the baseline's, bits and megabytes."""
    from fairquant.audit.evaluate import evaluate
    from fairquant.results import read_predictions

    before, after = read_predictions(folder / "validation.npz")
    found: dict[str, Any] = {"bits": report["bits"]["average"], "megabytes": report["artifact"]["bytes"] / 1e6}
    baseline = evaluate(before, recipe.metrics, seed=recipe.seed, replicates=50)
    for label, metric in evaluate(after, recipe.metrics, seed=recipe.seed, replicates=300).items():
        found |= {label: metric.value, f"{label}/low": metric.low, f"{label}/high": metric.high}
        found[f"baseline/{label}"] = baseline[label].value
    return found


def _tell(plugins: Plugins, plan: Plan, trial: Any, state: str, facts: Mapping[str, Any], display: Display) -> None:
    base, _ = read_base(plan.recipe, plan.overrides, plan.demo, plugins)
    info = StudyInfo(base, plan.folder, plan.folder.name)
    folder = trial.user_attrs.get("folder")
    for warning in plugins.notify(
        "fairquant_trial_finished", study=info, number=trial.number, state=state,
        folder=Path(folder) if folder else None, values=dict(facts),
    ):  # fmt: skip
        display.say(f"warning: {warning}")


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
