"""From a study's storage to its summary; the Pareto front is tested once, at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from fairquant.api import execute
from fairquant.recipe import Recipe
from fairquant.recipe.constraints import BROKEN, UNDECIDED
from fairquant.recipe.events import StudyInfo
from fairquant.recipe.search import Search
from fairquant.registry import Plugins
from fairquant.report.study import FEWEST, Effect, Summary, Trial, pareto_front
from fairquant.report.write import write_study
from fairquant.runs.folder import Display
from fairquant.study.trials import NOT_FACTS, SUPERFLUOUS, Plan, trial_recipe

QUANTITIES = ("accuracy", "worst-group-accuracy", "accuracy-gap", "bits", "megabytes")


def finalize(
    plan: Plan, base: Recipe, section: Search, study: optuna.Study, plugins: Plugins, display: Display
) -> Summary:
    """Test the front, write study.html and the results, notify the listeners."""
    summary = test_front(summarise(plan, section, study), plan, plugins, display)
    write_study(plan.folder, plan.to_dict(), summary, base, section)
    folders = [Path(trial.folder) for trial in summary.on_front() if trial.folder]
    info = StudyInfo(base, plan.folder, plan.folder.name)
    for warning in plugins.notify("fairquant_study_finished", study=info, folders=folders):
        display.say(f"warning: {warning}")
    return summary


def summarise(plan: Plan, section: Search, study: optuna.Study) -> Summary:
    """Every trial of the storage, the front among them, and the effects of the parameters."""
    trials = tuple(
        _trial(each, section) for each in study.get_trials(deepcopy=False) if SUPERFLUOUS not in each.user_attrs
    )
    front = tuple(trial.number for trial in pareto_front(trials, section.objectives))
    return Summary(
        name=plan.name, recipe=plan.recipe, objectives=section.objectives, trials=trials, front=front,
        effects=effects(trials, section),
    )  # fmt: skip


def _trial(given: optuna.trial.FrozenTrial, section: Search) -> Trial:
    facts = {k: v for k, v in given.user_attrs.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    for name in NOT_FACTS:
        facts.pop(name, None)
    broken = []
    for constraint in section.constraints:
        if constraint.quantity in facts:
            violation = constraint.violation(facts[constraint.quantity], facts.get(f"baseline/{constraint.quantity}"))
            if violation > 0:
                broken.append(constraint.text())
    states = {"COMPLETE": "infeasible" if broken else "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return Trial(
        number=given.number, state=states.get(given.state.name, "unfinished"), parameters=dict(given.params),
        validation=facts, folder=given.user_attrs.get("folder"), overrides=tuple(given.user_attrs.get("overrides", ())),
        problem=given.user_attrs.get("problem"), broken=tuple(broken),
    )  # fmt: skip


def test_front(summary: Summary, plan: Plan, plugins: Plugins, display: Display) -> Summary:
    """Finish the runs of the front: the one time that test images are read."""
    tested = {}
    for trial in summary.on_front():
        recipe = trial_recipe(plan, trial.overrides, plugins)
        report = execute(recipe, plugins, Path(plan.runs), display).report
        answers = [limit["answer"] for limit in report["accept"]["limits"]]
        facts: dict[str, Any] = {"bits": report["bits"]["average"], "megabytes": report["artifact"]["bytes"] / 1e6}
        facts |= {BROKEN: answers.count("FAIL"), UNDECIDED: answers.count("CANNOT TELL")}
        for label, metric in report["metrics"].items():
            if metric["value"] is not None:
                facts |= {label: metric["value"], f"{label}/low": metric["low"], f"{label}/high": metric["high"]}
        tested[trial.number] = facts
    return replace(summary, trials=tuple(replace(t, test=tested.get(t.number)) for t in summary.trials))


def effects(trials: Sequence[Trial], section: Search) -> tuple[Effect, ...]:
    """How much each parameter changes each quantity, the largest change first."""
    done = [trial for trial in trials if trial.state in ("complete", "infeasible")]
    wanted = dict.fromkeys([*(o.quantity for o in section.objectives), *QUANTITIES])
    all_effects = []
    for quantity in wanted:
        usable = [t for t in done if math.isfinite(t.validation.get(quantity, math.nan))]
        if len(usable) < FEWEST or np.ptp([t.validation[quantity] for t in usable]) == 0:
            continue
        fractions = _importances(usable, quantity)
        rows = [_effect(p.path, quantity, usable, fractions.get(p.path)) for p in section.parameters]
        all_effects += sorted((row for row in rows if row is not None), key=lambda effect: -effect.moved)
    return tuple(all_effects)


def _effect(path: str, quantity: str, trials: Sequence[Trial], importance: float | None) -> Effect | None:
    pairs = [(trial.parameters[path], trial.validation[quantity]) for trial in trials if path in trial.parameters]
    values = list(dict.fromkeys(value for value, _ in pairs))
    if len(values) < 2:
        return None
    groups: dict[str, list[float]] = {}
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    numeric = len(numbers) == len(values)
    if numeric and len(values) > 5:
        given = [float(value) for value, _ in pairs if isinstance(value, int | float)]
        edges = np.quantile(given, np.linspace(0, 1, 6))
        for value, (_, result) in zip(given, pairs, strict=True):
            interval = min(int(np.searchsorted(edges[1:-1], value, side="right")), 4)
            groups.setdefault(f"{edges[interval]:.3g} to {edges[interval + 1]:.3g}", []).append(result)
    else:
        for setting, result in pairs:
            groups.setdefault(f"{setting:g}" if numeric else str(setting), []).append(result)
    means = {name: float(np.mean(results)) for name, results in groups.items()}
    low, high = min(means, key=lambda n: means[n]), max(means, key=lambda n: means[n])
    return Effect(
        parameter=path, quantity=quantity, moved=means[high] - means[low], lowest_at=low, highest_at=high,
        importance=importance,
    )  # fmt: skip


def _importances(trials: Sequence[Trial], quantity: str) -> dict[str, float]:
    """Optuna's fANOVA over the parameters that all trials have."""
    common = [path for path in trials[0].parameters if all(path in trial.parameters for trial in trials)]
    if len(trials) < 8 or not common:
        return {}
    spaces: dict[str, optuna.distributions.BaseDistribution] = {}
    for path in common:
        values: list[Any] = list(dict.fromkeys(trial.parameters[path] for trial in trials))
        if len(values) < 2:
            continue
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        spaces[path] = (
            optuna.distributions.FloatDistribution(float(min(values)), float(max(values))) if numbers
            else optuna.distributions.CategoricalDistribution(values)
        )  # fmt: skip
    copy = optuna.create_study()
    for trial in trials:
        copy.add_trial(
            optuna.trial.create_trial(
                params={path: trial.parameters[path] for path in spaces}, distributions=spaces,
                value=trial.validation[quantity],
            )
        )  # fmt: skip
    try:
        return dict(
            optuna.importance.get_param_importances(copy, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        )
    except (ValueError, RuntimeError):
        return {}
