"""The HTML pages of runs, comparisons, studies and diffs: single files that need no network, made from Jinja2 templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fairquant.audit.evaluate import group_intervals
from fairquant.recipe.events import Report
from fairquant.recipe.schema import Recipe
from fairquant.recipe.search import Search
from fairquant.report import plots, study_plots
from fairquant.report.comparison import Comparison
from fairquant.report.diff import Diff
from fairquant.report.diff_tables import sections
from fairquant.report.diff_tables import summary as diff_summary
from fairquant.report.plots import Interval
from fairquant.report.study import Summary, effect_sentences, front_sentences
from fairquant.report.tables import PERMUTATION, entries, header, notes, permutation_entries
from fairquant.report.words import budget_text, points, size, verdict
from fairquant.roles import MetricValue
from fairquant.runs.results import Results

SPLITS = ("train", "validation", "test")


@cache
def _templates() -> Environment:
    folder = Path(__file__).parent / "templates"
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def run_page(recipe: Recipe, report: Report, results: Results, messages: Sequence[str]) -> str:
    """report.html. messages: notes of the run, such as dropped rows."""
    change = report["change"]
    before, after = (group_intervals(each, recipe.seed) for each in (results.test.before, results.test.after))
    quantized = results.quantized
    return _templates().get_template("run.html").render(
        kind="audit", narrow=True, demo=recipe.demo, title=f"{recipe.name} · {recipe.method} · seed {recipe.seed}",
        verdict=verdict(report, results.full_bytes), compared_with=_compared_with(recipe),
        accuracy_plot=Markup(plots.accuracy_by_group(before, after, results.audit.images)),
        accuracy=_accuracy_rows(report, results.audit.images, before, after),
        flips_plot=Markup(plots.flips_by_group(change["flips"]["by_group"], change["harmful_flips"]["by_group"])),
        metrics=_metric_rows(results), bits=_bits_text(report, results),
        bits_plot=Markup("" if quantized is None else plots.bits_per_layer(quantized.plan)),
        sizes=_size_rows(report, results), sha256=report["artifact"]["sha256"],
        data_head=[f"{report['dataset']['name']}, by {', '.join(report['dataset']['attributes'])}", *SPLITS],
        data=_data_rows(report), messages=messages,
        recipe=yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True),
        timings=", ".join(f"{name} {value:.0f} s" for name, value in report["timings"].items()),
        versions=", ".join(f"{name} {number}" for name, number in report["versions"].items()),
    )  # fmt: skip


def _compared_with(recipe: Recipe) -> str:
    """What the comparison with full precision compares."""
    if recipe.train.post_training:
        return "Post-training quantization: the full-precision model's weights, without further training."
    return (
        f"This model was trained for {recipe.train.epochs} more epochs than the full-precision model it is compared with; "
        "method=fp32 shows the effect of the same epochs without quantization."
    )


def _accuracy_rows(
    report: Report, images: Mapping[str, int], before: Mapping[str, Interval], after: Mapping[str, Interval]
) -> list[list[str]]:
    rows = []
    for name, change in report["change"]["accuracy"]["by_group"].items():
        value, low, high = (points(each, True) for each in (change["value"], change["low"], change["high"]))
        rows.append([name, str(images[name]), _span(before[name]), _span(after[name]), f"{value} [{low}, {high}]"])
    return rows


def _span(values: Interval) -> str:
    value, low, high = values
    return f"{points(value)} [{points(low)}, {points(high)}]"


def _metric_rows(results: Results) -> list[list[str]]:
    rows = []
    for label, metric in results.audit.metrics.items():
        before, baseline = results.audit.baseline[label], _number(metric.permutation_baseline)
        rows.append([label, _value(before), _value(metric), baseline, str(metric.skipped or "")])
    return rows


def _value(metric: MetricValue) -> str:
    if metric.value != metric.value:
        return "not defined"
    return f"{metric.value:.3f} [{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3f}"


def _bits_text(report: Report, results: Results) -> str:
    bits, quantized = report["bits"], results.quantized
    if quantized is None:
        return ""
    text = f"{bits['average']:.3f} bits per weight on average, budget {budget_text(report['budget'])}"
    if "nominal_bits" in report["budget"]:
        text += f", nominal {report['budget']['nominal_bits']:g}"
    if bits.get("moved"):
        text += f"; {100 * bits['moved']:.1f} % of the units left the starting plan while bits were learned"
    if (gap := report["optimality"].get("gap")) is not None:
        text += f"; the starting plan is proven within {max(100 * gap, 0.001):.3f} % of the best possible"
    now, full = quantized.bops
    text += f"; {now / 1e9:.3g} billion bit operations an image ({100 * now / full:.1f} % of full precision)"
    if "latency_ms" in bits:
        text += f"; {bits['latency_ms']:.3g} ms in the quantized layers by the latency table"
    return text + ". Every unit is listed in bit_plan.csv."


def _size_rows(report: Report, results: Results) -> list[list[str]]:
    artifact, weight_bytes = report["artifact"]["bytes"], report["bits"]["weight_bytes"]
    return [
        ["this file, everything included", size(artifact)],
        ["of which: weights at their bits", size(weight_bytes)],
        ["of which: scales, unquantized state, header", size(artifact - weight_bytes)],
        ["the same model in float32", size(results.full_bytes)],
    ]


def _data_rows(report: Report) -> list[list[str]]:
    counts = report["dataset"]["counts"]
    rows = [["all", *(str(counts[split]) for split in SPLITS)]]
    for kind, noun in (("groups", "group"), ("labels", "label")):
        rows += [[f"{noun} {name}", *(str(each[split]) for split in SPLITS)] for name, each in counts[kind].items()]
    return rows


def comparison_page(comparison: Comparison) -> str:
    """compare.html: the table first, then the pictures."""
    rows = [row for row in comparison.rows if row.metrics]
    methods, total = len({row.method for row in comparison.rows}), len(comparison.rows)
    count = "" if methods == total else f", {total} rows"
    layers = [row for row in rows if row.layers]
    has_worst = bool(rows) and "worst-group-accuracy" in rows[0].metrics
    return _templates().get_template("comparison.html").render(
        kind="comparison", narrow=False, demo=comparison.recipe.demo,
        title=f"{comparison.recipe.name}: {methods} methods compared{count}", header=header(comparison),
        rows=[
            {"name": row.name, "is_reference": row.name in comparison.references, "entries": entries(comparison, row)}
            for row in comparison.rows
        ],
        baseline_name=PERMUTATION, baseline=permutation_entries(comparison), notes=notes(comparison),
        pareto=Markup(plots.pareto(rows) if has_worst else ""), changes=Markup(plots.changes(rows) if rows else ""),
        layers=Markup(plots.bits_by_method(layers) if layers else ""),
    )  # fmt: skip


def diff_page(diff: Diff) -> str:
    """The page of `fairquant diff --html`: what was compared, then the same tables as on the terminal."""
    names = " and ".join(f"{Path(side.path).parent.name}/{Path(side.path).name}" for side in (diff.a, diff.b))
    return _templates().get_template("diff.html").render(
        kind="diff", narrow=False, demo=diff.demo, title=names, summary=diff_summary(diff), sections=sections(diff),
    )  # fmt: skip


def study_page(summary: Summary, recipe: Recipe, section: Search) -> str:
    """study.html: what was best, the front with its intervals, the effect of each parameter, every trial."""
    wanted = [*(o.quantity for o in summary.objectives), "accuracy", "worst-group-accuracy", "bits", "megabytes"]
    quantities = list(dict.fromkeys(wanted))
    objectives = [o.quantity for o in summary.objectives]
    states = ("complete", "infeasible", "pruned", "failed", "unfinished")
    return _templates().get_template("study.html").render(
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
