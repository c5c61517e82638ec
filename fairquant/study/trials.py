"""One trial of a study: values out of Optuna, an ordinary run up to validation, quantities back."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from fairquant.api import ValidationOnly, execute
from fairquant.audit.acceptance import acceptance
from fairquant.audit.evaluate import evaluate
from fairquant.errors import Infeasible, MachineFailed, Pruned, UserError
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.constraints import BROKEN, UNDECIDED
from fairquant.recipe.events import Report, StudyInfo
from fairquant.recipe.read import with_lists
from fairquant.recipe.search import Parameter, Search, override, read_search
from fairquant.registry import Plugins
from fairquant.runs.data import missing_data
from fairquant.runs.folder import Display
from fairquant.runs.predictions import read_predictions
from fairquant.study.storage import make_sampler, storage_errors

SUPERFLUOUS = "superfluous"
#: Numbers among a trial's attributes that are not quantities of its run.
NOT_FACTS = ("worker",)
#: Samplers that draw one value after the other.
INDEPENDENT = ("tpe", "random", "grid")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every worker of a study must know; stored in the folder as study.json. patience: seconds to wait for a database that
    does not answer."""

    recipe: str
    overrides: tuple[str, ...]
    demo: bool
    trials: int
    storage: str | None
    runs: str
    folder: Path
    patience: float = 300.0

    @property
    def name(self) -> str:
        return self.folder.name

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("folder", "storage", "patience")}


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
    if missing := missing_data(base, plugins.registry):
        raise UserError(missing)
    section = read_search(base.search, tuple(component.label for component in base.metrics), [])
    assert section is not None
    return base, section


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What one worker of a study works with."""

    plan: Plan
    base: Recipe
    search: Search
    plugins: Plugins
    display: Display

    def run_trial(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Optuna's objective: the objectives on validation; what went wrong is recorded with the trial.

        Raises optuna.TrialPruned, or what stopped the run.
        """
        if "planned" not in trial.user_attrs:
            trial.set_user_attr(SUPERFLUOUS, True)  # another worker took the last one first
            raise optuna.TrialPruned
        trial.set_user_attr("worker", os.getpid())
        values = suggest(trial, self.search.parameters, self._sampler_for(trial))
        overrides = [override(path, value) for path, value in values.items()]
        trial.set_user_attr("overrides", overrides)
        try:
            facts = self._evaluate(trial, overrides)
            for objective in self.search.objectives:
                if not math.isfinite(facts[objective.quantity]):
                    raise UserError(f"{objective.quantity} is not defined on validation: too few images of it")
        except MachineFailed:
            raise  # of the machine, not of the trial, which is run again
        except storage_errors():
            raise  # of the database, not of the trial
        except Pruned:
            trial.set_user_attr("problem", "pruned: others were better at the same epoch")
            self._notify(trial, "pruned", {})
            raise optuna.TrialPruned from None
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            what = "cannot meet the budget: " if isinstance(error, Infeasible) else kind
            trial.set_user_attr("problem", f"{what}{error}"[:500])
            self._notify(trial, "failed", {})
            raise
        for constraint in self.search.constraints:
            base = facts.get(f"baseline/{constraint.quantity}")
            trial.set_constraint(constraint.text(), constraint.violation(facts[constraint.quantity], base))
        for name, value in facts.items():
            trial.set_user_attr(name, value)
        self._notify(trial, "complete", facts)
        return tuple(facts[objective.quantity] for objective in self.search.objectives)

    def _sampler_for(self, trial: optuna.Trial) -> Callable[[str], None]:
        """Before each value of a sampler that draws them one by one: what it draws depends on the seed, the trial, the parameter and
        the trials that are finished, so that a trial that was killed draws the same values again."""

        def renew(path: str) -> None:
            if self.search.sampler in INDEPENDENT:
                name = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
                trial.study.sampler = make_sampler(self.search, seed_of(self.base.seed, trial.number, name))

        return renew

    def _evaluate(self, trial: optuna.Trial, overrides: Sequence[str]) -> dict[str, float]:
        """Run it up to validation: every quantity, label -> value, baseline/label, .../low, .../high."""
        recipe, runs = trial_recipe(self.plan, overrides, self.plugins), Path(self.plan.runs)
        watch = _Watch(trial, self.search) if self.search.pruner != "none" else lambda stage, values: None
        if self.search.pruner != "none":  # the objective is then measured after every epoch
            first = [each for each in recipe.metrics if each.label == self.search.objectives[0].quantity]
            recipe = replace(recipe, selection=tuple(dict.fromkeys([*recipe.selection, *first])))
        only = ValidationOnly(watch, lambda folder: trial.set_user_attr("folder", str(folder)))
        # where another worker drew the same values, its result is ours
        result = execute(recipe, self.plugins, runs, self.display, validation_only=only, wait=True)
        return validation_facts(recipe, result.folder, result.report)

    def _notify(self, trial: optuna.Trial, state: str, facts: Mapping[str, float]) -> None:
        folder = trial.user_attrs.get("folder")
        info = StudyInfo(self.base, self.plan.folder, self.plan.folder.name)
        for warning in self.plugins.notify(
            "fairquant_trial_finished", study=info, number=trial.number, state=state,
            folder=Path(folder) if folder else None, values=dict(facts),
        ):  # fmt: skip
            self.display.say(f"warning: {warning}")


@dataclass
class _Watch:
    """Reports the first objective after each epoch of the quantized training. Raises Pruned where Optuna gives it up."""

    trial: optuna.Trial
    search: Search
    epoch: int = field(default=0)

    def __call__(self, stage: str, values: Mapping[str, float]) -> None:
        quantity = self.search.objectives[0].quantity
        if stage == "quantized" and quantity in values:
            self.epoch += 1
            self.trial.report(values[quantity], self.epoch)
            if self.trial.should_prune():
                raise Pruned


def seed_of(*parts: int) -> int:
    """A seed of 32 bits that follows from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def suggest(
    trial: optuna.Trial, parameters: Sequence[Parameter], before: Callable[[str], None] = lambda path: None
) -> dict[str, Any]:
    """Values for this trial; a conditional parameter only where its condition holds. before(path) is called before each is drawn."""
    chosen: dict[str, Any] = {}
    for parameter in parameters:
        if any(chosen.get(path) != wanted for path, wanted in parameter.when):
            continue
        path = parameter.path
        before(path)
        if parameter.choices:
            encoded = [encode_choice(value) for value in parameter.choices]
            chosen[path] = parameter.choices[encoded.index(trial.suggest_categorical(path, encoded))]
        elif parameter.whole:
            step = int(parameter.step or 1)
            low, high = parameter.range()
            chosen[path] = trial.suggest_int(path, int(low), int(high), step=step, log=parameter.log)
        else:
            chosen[path] = trial.suggest_float(path, *parameter.range(), step=parameter.step, log=parameter.log)
    return chosen


def encode_choice(value: object) -> bool | int | float | str | None:
    """Optuna's categories are numbers, text, truth values and None; lists and mappings become text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def trial_recipe(plan: Plan, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """The ordinary recipe of a trial."""

    def read(more: Sequence[str]) -> Recipe:
        return read_recipe(plan.recipe, [*plan.overrides, *more], registry=plugins.registry, demo=plan.demo)

    names = [each for each in overrides if each.split("=")[0].split(".")[-1] in ("name", "method")]
    base = read(names)  # lists are changed in the method's own form
    return replace(read(with_lists(base, overrides)), search={})


def validation_facts(recipe: Recipe, folder: Path, report: Report) -> dict[str, float]:
    """Every metric on validation with its interval, the baseline's, bits, megabytes, and limits that are not kept."""
    stored, size = read_predictions(folder / "validation.npz"), report["artifact"]["bytes"]
    answers = [limit["answer"] for limit in acceptance(stored.after, stored.before, recipe.accept, size)["limits"]]
    facts: dict[str, float] = {"bits": report["bits"]["average"], "megabytes": size / 1e6}
    facts |= {BROKEN: answers.count("FAIL"), UNDECIDED: answers.count("CANNOT TELL")}
    baseline = evaluate(stored.before, recipe.metrics, seed=recipe.seed, replicates=50)
    for label, metric in evaluate(stored.after, recipe.metrics, seed=recipe.seed, replicates=300).items():
        facts |= {label: metric.value, f"{label}/low": metric.low, f"{label}/high": metric.high}
        facts[f"baseline/{label}"] = baseline[label].value
    return facts
