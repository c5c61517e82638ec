"""The data of a study: its trials, its Pareto front, and what each parameter changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairquant.recipe.search import Objective

FEWEST = 8  # trials below which effects are not reported
SMALLEST = 5e-4  # change of a mean below which no effect is reported


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial. state: complete, infeasible (a constraint is broken), pruned, failed or unfinished; validation and test:
    quantity -> value (test only on the front); overrides: what to put on the command line to run it."""

    number: int
    state: str
    parameters: dict[str, object]
    validation: dict[str, float]
    folder: str | None
    overrides: tuple[str, ...]
    problem: str | None = None
    broken: tuple[str, ...] = ()
    test: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How far a parameter moves a quantity: the range of its mean over the parameter's values (or five parts of its
    range), the values where it is lowest and highest, and the parameter's fraction of the variance (fANOVA)."""

    parameter: str
    quantity: str
    moved: float
    lowest_at: str
    highest_at: str
    importance: float | None


@dataclass(frozen=True, kw_only=True)
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

    def finished(self) -> list[Trial]:
        """Trials with results, whether or not they keep the constraints."""
        return [trial for trial in self.trials if trial.state in ("complete", "infeasible")]

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Complete, feasible trials that no other trial dominates; of equal ones the first."""
    signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in objectives])
    candidates = [t for t in trials if t.state == "complete" and all(o.quantity in t.validation for o in objectives)]
    table = [[t.validation[o.quantity] for o in objectives] for t in candidates]
    values = np.array(table).reshape(len(candidates), len(objectives)) * signs
    front: list[Trial] = []
    seen: set[str | None] = set()
    for row, trial in enumerate(candidates):
        if not np.isfinite(values[row]).all() or trial.folder in seen:
            continue
        better = (values <= values[row]).all(1) & (values < values[row]).any(1)
        equal_before = (values[:row] == values[row]).all(1).any() if row else False
        if not better.any() and not (equal_before and len(objectives) == 1):
            front.append(trial)
            seen.add(trial.folder)
    return sorted(front, key=lambda trial: trial.validation[objectives[0].quantity])


def front_sentences(summary: Summary) -> list[str]:
    """What is best, and how it did on test."""
    front = summary.on_front()
    if not front:
        return ["No trial is complete and keeps the constraints."]
    lines = [f"{len(front)} trial(s) are Pareto-optimal. They were chosen on validation and tested once."]
    first = summary.objectives[0]
    best = (max if first.direction == "maximize" else min)(front, key=lambda t: t.validation[first.quantity])
    value, test = best.validation[first.quantity], (best.test or {}).get(first.quantity)
    shown = f" and {test:.3f} on test" if test is not None else ""
    lines.append(f"Best {first.quantity}: trial {best.number} with {value:.3f} on validation{shown}.")
    tested = [t for t in front if t.test and first.quantity in t.test]
    if len(tested) > 1:
        gap = np.mean([(t.test or {})[first.quantity] - t.validation[first.quantity] for t in tested])
        lines.append(f"On the front, test differs from validation by {gap:+.3f} on average, the cost of selection.")
    return lines


def effect_sentences(summary: Summary) -> list[str]:
    """Which parameter changes which quantity, and by how much."""
    if not summary.effects:
        return [f"Fewer than {FEWEST} trials with different results: too few to report the effects of parameters."]
    lines = []
    for quantity in dict.fromkeys(effect.quantity for effect in summary.effects):
        effects = [effect for effect in summary.effects if effect.quantity == quantity]
        if all(effect.moved < SMALLEST for effect in effects):  # a budget that is met changes nothing
            lines.append(f"No parameter changes {quantity} by {SMALLEST:g} or more.")
            continue
        lines.append(f"{quantity} changes with " + "; ".join(map(_effect_text, effects)) + ".")
    if len({effect.parameter for effect in summary.effects}) > 1:
        lines.append(
            "These are means over the trials that were run. A sampler combines good values, so that one parameter may be "
            "credited with the effect of another; a grid does not."
        )
    return lines


def _effect_text(effect: Effect) -> str:
    fraction = "" if effect.importance is None else f"; {100 * effect.importance:.0f} % of the variance"
    where = f"lowest at {effect.lowest_at}, highest at {effect.highest_at}"
    return f"{effect.parameter} by {effect.moved:.3f} ({where}{fraction})"
