"""compare.html, study.html and the page of a diff (report.html: `run_page`): single files that need no network, made from
Jinja2 templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fairquant.recipe.schema import Recipe
from fairquant.recipe.search import Search
from fairquant.report import plots, study_plots
from fairquant.report.comparison import Comparison
from fairquant.report.diff import Diff
from fairquant.report.diff_tables import sections
from fairquant.report.diff_tables import summary as diff_summary
from fairquant.report.study import Summary, effect_sentences, front_sentences
from fairquant.report.tables import PERMUTATION, answers, entries, header, notes, permutation_entries


@cache
def templates() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def comparison_page(comparison: Comparison) -> str:
    """compare.html: the table first, then the pictures."""
    rows = [row for row in comparison.rows if row.metrics]
    methods, total = len({row.method for row in comparison.rows}), len(comparison.rows)
    count = "" if methods == total else f", {total} rows"
    layers = [row for row in rows if row.layers]
    has_worst = bool(rows) and "worst-group-accuracy" in rows[0].metrics
    return templates().get_template("comparison.html").render(
        kind="comparison", narrow=False, demo=comparison.recipe.demo,
        title=f"{comparison.recipe.name}: {methods} methods compared{count}", header=header(comparison),
        rows=[
            {"name": row.name, "is_reference": row.name in comparison.references, "entries": entries(comparison, row)}
            for row in comparison.rows
        ],
        answers=answers(comparison), many=len(rows) > plots.FITTING,
        baseline_name=PERMUTATION, baseline=permutation_entries(comparison), notes=notes(comparison),
        pareto=Markup(plots.pareto(rows) if has_worst else ""), changes=Markup(plots.changes(rows) if rows else ""),
        layers=Markup(plots.bits_by_method(layers) if layers else ""),
    )  # fmt: skip


def diff_page(diff: Diff) -> str:
    """The page of `fairquant diff --html`: what was compared, then the same tables as on the terminal."""
    names = " and ".join(f"{Path(side.path).parent.name}/{Path(side.path).name}" for side in (diff.a, diff.b))
    return templates().get_template("diff.html").render(
        kind="diff", narrow=False, demo=diff.demo, title=names, summary=diff_summary(diff), sections=sections(diff),
    )  # fmt: skip


def study_page(summary: Summary, recipe: Recipe, section: Search) -> str:
    """study.html: what was best, the front with its intervals, the effect of each parameter, every trial."""
    wanted = [*(o.quantity for o in summary.objectives), "accuracy", "worst-group-accuracy", "bits", "megabytes"]
    quantities = list(dict.fromkeys(wanted))
    objectives = [o.quantity for o in summary.objectives]
    states = ("complete", "infeasible", "pruned", "failed", "unfinished")
    return templates().get_template("study.html").render(
        kind=f"study {summary.name}", narrow=False, demo=recipe.demo,
        title=f"{recipe.name}: {len(summary.trials)} trials",
        objectives=", ".join(f"{o.quantity} ({o.direction})" for o in summary.objectives),
        counts=", ".join(f"{summary.count(state)} {state}" for state in states if summary.count(state)),
        summary=[*front_sentences(summary), *effect_sentences(summary)],
        best_head=["trial", *(f"{name}, {where}" for name in quantities for where in ("validation", "test"))],
        best=_best_rows(summary, quantities), commands=_commands(summary),
        plots=[(heading, Markup(plot)) for heading, plot in study_plots.study_plots(summary, section)],
        trials_head=["trial", "state", *objectives, "parameters", ""], trials=_trial_rows(summary, objectives),
    )  # fmt: skip


def _best_rows(summary: Summary, quantities: Sequence[str]) -> list[list[str]]:
    rows = []
    for trial in summary.on_front():
        cells = [_shown(values, name) for name in quantities for values in (trial.validation, trial.test or {})]
        rows.append([str(trial.number), *cells])
    return rows


def _commands(summary: Summary) -> list[tuple[int, str]]:
    return [
        (trial.number, f"fairquant run {summary.recipe} " + " ".join(f"'{each}'" for each in trial.overrides))
        for trial in summary.on_front()
    ]


def _trial_rows(summary: Summary, objectives: Sequence[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for trial in summary.trials:
        why = trial.problem or ("broken: " + ", ".join(trial.broken) if trial.broken else "")
        values = ", ".join(
            f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}"
            for path, value in trial.parameters.items()
        )
        results = [_shown(trial.validation, name) for name in objectives]
        cells = [str(trial.number), trial.state, *results, values, why]
        rows.append({"on_front": trial.number in summary.front, "cells": cells})
    return rows


def _shown(values: dict[str, float], name: str) -> str:
    value, low, high = values.get(name), values.get(f"{name}/low"), values.get(f"{name}/high")
    if value is None:
        return "-"
    has_interval = low is not None and high is not None and low == low
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if has_interval else "")
