"""What a study found: the trials, the front, what each parameter moves; the front is tested once, at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairquant.files import write_atomically
from fairquant.recipe import Recipe
from fairquant.recipe.search import Objective, Search
from fairquant.registry import Plugins
from fairquant.report import plain
from fairquant.runs import Display
from fairquant.study.trials import Plan, trial_recipe

SUPERFLUOUS = "superfluous"
FEWEST = 8  # trials below which nothing is said of what moves what
SMALLEST = 5e-4  # of a mean, below which nothing is said to move it
QUANTITIES = ("accuracy", "worst-group-accuracy", "accuracy-gap", "bits", "megabytes")


@dataclass(frozen=True)
class Trial:
    """One trial. state: complete, infeasible (a constraint is broken), pruned, failed or unfinished; validation and test:
    quantity -> value (test only on the front); overrides: what to put on the command line to run it."""

    number: int
    state: str
    parameters: dict[str, Any]
    validation: dict[str, float]
    folder: str | None
    overrides: tuple[str, ...]
    problem: str | None = None
    broken: tuple[str, ...] = ()
    test: dict[str, float] | None = None


@dataclass(frozen=True)
class Effect:
    """How far a parameter moves a quantity: the range of its mean over the parameter's values (or five parts of its
    range), the values where it is lowest and highest, and the parameter's share of the variance (fANOVA)."""

    parameter: str
    quantity: str
    moved: float
    lowest_at: str
    highest_at: str
    importance: float | None


@dataclass(frozen=True)
class Summary:
    """All trials; front: numbers of the best ones (one for a single objective)."""

    name: str
    recipe: str
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    effects: tuple[Effect, ...]

    def on_front(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.number in self.front]

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def conclude(plan: Plan, base: Recipe, section: Search, study: Any, plugins: Plugins, display: Display) -> Summary:
    """Test the front, write study.html and the results, tell the listeners."""
    from fairquant.study.compare import ComparisonInfo
    from fairquant.study.study_page import study_page

    found = summarise(plan, section, study)
    found = test_front(found, plan, plugins, display)
    write_atomically(plan.folder / "study.html", study_page(found, base, section).encode())
    content = plan.to_dict() | {"results": plain(asdict(found))}
    write_atomically(plan.folder / "study.json", (json.dumps(content, indent=1) + "\n").encode())
    folders = [Path(trial.folder) for trial in found.on_front() if trial.folder]
    info = ComparisonInfo(base, plan.folder, plan.folder.name)
    for warning in plugins.notify("fairquant_study_finished", study=info, folders=folders):
        display.say(f"warning: {warning}")
    return found


def summarise(plan: Plan, section: Search, study: Any) -> Summary:
    """Out of the storage."""
    trials = tuple(
        _trial(each, section) for each in study.get_trials(deepcopy=False) if SUPERFLUOUS not in each.user_attrs
    )
    trials = tuple(trial for trial in trials if trial is not None)
    front = tuple(trial.number for trial in pareto_front(trials, section.objectives))
    return Summary(plan.name, plan.recipe, section.objectives, trials, front, effects(trials, section))


def _trial(given: Any, section: Search) -> Trial:
    facts = {k: v for k, v in given.user_attrs.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    for name in ("retried", "worker"):
        facts.pop(name, None)
    broken = []
    for constraint in section.constraints:
        if constraint.quantity in facts:
            violation = constraint.violation(facts[constraint.quantity], facts.get(f"baseline/{constraint.quantity}"))
            if violation > 0:
                broken.append(constraint.text())
    state = {"COMPLETE": "infeasible" if broken else "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(
        given.state.name, "unfinished"
    )
    return Trial(
        given.number, state, dict(given.params), facts, given.user_attrs.get("folder"),
        tuple(given.user_attrs.get("overrides", ())), given.user_attrs.get("problem"), tuple(broken),
    )  # fmt: skip


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Complete, feasible trials that no other one beats in everything; of equal ones the first."""
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in objectives])
    good = [t for t in trials if t.state == "complete" and all(o.quantity in t.validation for o in objectives)]
    values = (
        np.array([[t.validation[o.quantity] for o in objectives] for t in good]).reshape(len(good), len(objectives))
        * signs
    )
    kept: list[Trial] = []
    seen: set[str | None] = set()
    for row, trial in enumerate(good):
        if not np.isfinite(values[row]).all() or trial.folder in seen:
            continue
        better = (values <= values[row]).all(1) & (values < values[row]).any(1)
        equal_before = (values[:row] == values[row]).all(1).any() if row else False
        if not better.any() and not (equal_before and len(objectives) == 1):
            kept.append(trial)
            seen.add(trial.folder)
    return sorted(kept, key=lambda trial: trial.validation[objectives[0].quantity])


def test_front(found: Summary, plan: Plan, plugins: Plugins, display: Display) -> Summary:
    """Finish the runs of the front: the one time that test images are read."""
    from dataclasses import replace

    from fairquant.api import execute

    tested = {}
    for trial in found.on_front():
        recipe = trial_recipe(plan, trial.overrides, plugins)
        report = execute(recipe, plugins, Path(plan.runs), display).report
        facts = {"bits": report["bits"]["average"], "megabytes": report["artifact"]["bytes"] / 1e6}
        for label, metric in report["metrics"].items():
            if metric["value"] is not None:
                facts |= {label: metric["value"], f"{label}/low": metric["low"], f"{label}/high": metric["high"]}
        tested[trial.number] = facts
    trials = tuple(replace(trial, test=tested.get(trial.number)) for trial in found.trials)
    return replace(found, trials=trials)


def effects(trials: Sequence[Trial], section: Search) -> tuple[Effect, ...]:
    """What each parameter moves, by quantity, most first."""
    done = [trial for trial in trials if trial.state in ("complete", "infeasible")]
    wanted = dict.fromkeys([*(o.quantity for o in section.objectives), *QUANTITIES])
    found = []
    for quantity in wanted:
        usable = [t for t in done if math.isfinite(t.validation.get(quantity, math.nan))]
        if len(usable) < FEWEST or np.ptp([t.validation[quantity] for t in usable]) == 0:
            continue
        shares = _importances(usable, quantity)
        rows = [
            e for p in section.parameters if (e := _effect(p.path, quantity, usable, shares.get(p.path))) is not None
        ]
        found += sorted(rows, key=lambda effect: -effect.moved)
    return tuple(found)


def _effect(path: str, quantity: str, trials: Sequence[Trial], importance: float | None) -> Effect | None:
    pairs = [(trial.parameters[path], trial.validation[quantity]) for trial in trials if path in trial.parameters]
    values = list(dict.fromkeys(value for value, _ in pairs))
    if len(values) < 2:
        return None
    groups: dict[str, list[float]] = {}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(values) > 5:
        edges = np.quantile([float(value) for value, _ in pairs], np.linspace(0, 1, 6))
        for value, result in pairs:
            part = min(int(np.searchsorted(edges[1:-1], float(value), side="right")), 4)
            groups.setdefault(f"{edges[part]:.3g} to {edges[part + 1]:.3g}", []).append(result)
    else:
        for value, result in pairs:
            groups.setdefault(f"{value:g}" if numbers else str(value), []).append(result)
    means = {name: float(np.mean(results)) for name, results in groups.items()}
    low, high = min(means, key=lambda n: means[n]), max(means, key=lambda n: means[n])
    return Effect(path, quantity, means[high] - means[low], low, high, importance)


def _importances(trials: Sequence[Trial], quantity: str) -> dict[str, float]:
    """Optuna's fANOVA over the parameters that all trials have."""
    import optuna

    common = [path for path in trials[0].parameters if all(path in trial.parameters for trial in trials)]
    if len(trials) < 8 or not common:
        return {}
    spaces: dict[str, Any] = {}
    for path in common:
        values = list(dict.fromkeys(trial.parameters[path] for trial in trials))
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


def verdict(found: Summary) -> list[str]:
    """In words: what moves what, and by how much."""
    lines = (
        [] if found.effects else [f"Fewer than {FEWEST} trials with different results: too few to say what moves what."]
    )
    for quantity in dict.fromkeys(effect.quantity for effect in found.effects):
        rows = [effect for effect in found.effects if effect.quantity == quantity]
        if all(effect.moved < SMALLEST for effect in rows):  # a budget that is met moves nothing
            lines.append(f"{quantity} is moved by none of them: by less than {SMALLEST:g} each.")
            continue
        parts = [
            f"{e.parameter} by {e.moved:.3f} (least at {e.lowest_at}, most at {e.highest_at}"
            + (f"; {100 * e.importance:.0f} % of the variance)" if e.importance is not None else ")")
            for e in rows
        ]
        lines.append(f"{quantity} is moved by " + "; ".join(parts) + ".")
    if found.effects and len({effect.parameter for effect in found.effects}) > 1:
        lines.append(
            "These are means over the trials that were made. A sampler tries good values together, so that one parameter may "
            "be credited with what another did; a grid does not."
        )
    return lines


__all__ = ["Effect", "Summary", "Trial", "conclude", "effects", "pareto_front", "summarise", "verdict"]
