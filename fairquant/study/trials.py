"""One trial of a study: values out of Optuna, an ordinary run as far as validation, quantities back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairquant.errors import Infeasible, Pruned, RunBusy, UserError
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.read import with_lists
from fairquant.recipe.search import Parameter, Search, override, read_search
from fairquant.registry import Plugins
from fairquant.runs import Display, run_folder
from fairquant.study.compare import ComparisonInfo as StudyInfo

RETRIED = "retried"


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


def run_trial(trial: Any, plan: Plan, section: Search, plugins: Plugins, display: Display) -> tuple[float, ...]:
    """Optuna's objective: the quantities sought, on validation; what went wrong is the trial's own record."""
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
