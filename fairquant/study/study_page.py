"""study.html: what was found, the front with its intervals, what each parameter moves; one page, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from fairquant.audit.page import STYLE
from fairquant.audit.plots import AFTER, BEFORE, HARM, figure_and_axes, svg
from fairquant.recipe import Recipe
from fairquant.recipe.search import Search
from fairquant.study.summary import Summary, Trial, verdict

MORE = "main{max-width:1180px}tr.front{background:#eef4ff}code{font-size:.85em;overflow-wrap:anywhere}"


def study_page(found: Summary, recipe: Recipe, section: Search) -> str:
    done = [trial for trial in found.trials if trial.state in ("complete", "infeasible")]
    wanted = ", ".join(f"{o.quantity} ({o.direction})" for o in found.objectives)
    states = ("complete", "infeasible", "pruned", "failed", "unfinished")
    counts = ", ".join(f"{found.count(state)} {state}" for state in states if found.count(state))
    parts = [
        _section("In words", "".join(f"<p>{escape(line)}</p>" for line in [*summary_lines(found), *verdict(found)]))
    ]
    parts.append(_section("Best trials", best_table(found)))
    if len(found.objectives) == 2 and done:
        parts.append(_section("The front", front_plot(found, done)))
    elif done:
        parts.append(_section("Trial by trial", history_plot(found, done)))
    if any(effect.importance is not None for effect in found.effects):
        parts.append(_section("Importance of the parameters", importance_plot(found)))
    if len(done) > 1:
        parts.append(_section("Parallel coordinates", parallel_plot(found, done, section)))
        parts.append(_section("Slices", slice_plots(found, done, section)))
    parts.append(_section("All trials", all_table(found)))
    demo = "<section class='demo'>DEMO: the numbers mean nothing.</section>" if recipe.demo else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>FairQuant study: {escape(recipe.name)}</title><style>{STYLE}{MORE}</style></head><body><main>"
        f"<p class='muted'>FairQuant study {escape(found.name)}</p><h1>{escape(recipe.name)}: {len(found.trials)} trials</h1>"
        f"<p>Sought: {escape(wanted)}. Trials: {counts}.</p>{demo}{''.join(parts)}</main></body></html>\n"
    )


def summary_lines(found: Summary) -> list[str]:
    """The first sentences: what is best, and how it did on test."""
    front = found.on_front()
    if not front:
        return ["No trial is complete and keeps the constraints."]
    lines = [f"{len(front)} trial(s) are not beaten by another. They were chosen on validation and tested once."]
    first = found.objectives[0]
    best = (max if first.direction == "maximize" else min)(front, key=lambda t: t.validation[first.quantity])
    value, test = best.validation[first.quantity], (best.test or {}).get(first.quantity)
    shown = f" and {test:.3f} on test" if test is not None else ""
    lines.append(f"Best {first.quantity}: trial {best.number} with {value:.3f} on validation{shown}.")
    chosen = [t for t in front if t.test and first.quantity in t.test]
    if len(chosen) > 1:
        gap = np.mean([(t.test or {})[first.quantity] - t.validation[first.quantity] for t in chosen])
        lines.append(f"On the front, test differs from validation by {gap:+.3f} on average: the price of choosing.")
    return lines


def best_table(found: Summary) -> str:
    wanted = [*(o.quantity for o in found.objectives), "accuracy", "worst-group-accuracy", "bits", "megabytes"]
    names = list(dict.fromkeys(wanted))
    head = "<tr><th>trial</th>" + "".join(f"<th>{escape(n)}<br>validation</th><th>test</th>" for n in names) + "</tr>"
    rows, commands = [], []
    for trial in found.on_front():
        cells = "".join(f"<td>{_shown(trial.validation, n)}</td><td>{_shown(trial.test or {}, n)}</td>" for n in names)
        rows.append(f"<tr><td>{trial.number}</td>{cells}</tr>")
        command = f"fairquant run {found.recipe} " + " ".join(f"'{each}'" for each in trial.overrides)
        commands.append(f"<li>trial {trial.number}: <code>{escape(command)}</code></li>")
    table = f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"
    return f"{table}<p>The commands to run them:</p><ul>{''.join(commands)}</ul>"


def all_table(found: Summary) -> str:
    names = [o.quantity for o in found.objectives]
    head = (
        "<tr><th>trial</th><th>state</th>"
        + "".join(f"<th>{escape(n)}</th>" for n in names)
        + "<th>values</th><th></th></tr>"
    )
    rows = []
    for trial in found.trials:
        cells = "".join(f"<td>{_shown(trial.validation, n)}</td>" for n in names)
        why = trial.problem or ("broken: " + ", ".join(trial.broken) if trial.broken else "")
        shown = ", ".join(
            f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}"
            for path, value in trial.parameters.items()
        )
        kind = " class='front'" if trial.number in found.front else ""
        rows.append(
            f"<tr{kind}><td>{trial.number}</td><td>{trial.state}</td>{cells}<td>{escape(shown)}</td><td>{escape(why)}</td></tr>"
        )
    return f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"


def front_plot(found: Summary, done: Sequence[Trial]) -> str:
    """Both objectives of every trial; the front with validation intervals, and where it came out on test."""
    one, two = (o.quantity for o in found.objectives)
    figure, axes = figure_and_axes(9.6, 5.0)
    others = [t for t in done if t.number not in found.front]
    axes.plot(
        [t.validation[two] for t in others],
        [t.validation[one] for t in others],
        "o",
        color=BEFORE,
        ms=4,
        label="trials",
    )
    for number, trial in enumerate(found.on_front()):
        x, y = trial.validation[two], trial.validation[one]
        low, high = trial.validation.get(f"{one}/low", y), trial.validation.get(f"{one}/high", y)
        axes.plot([x, x], [low, high], color=AFTER, lw=1.3, alpha=0.6)
        axes.plot([x], [y], "o", color=AFTER, ms=6, label="front, validation with interval" if number == 0 else None)
        axes.annotate(str(trial.number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        if trial.test and one in trial.test and two in trial.test:
            axes.plot(
                [trial.test[two]],
                [trial.test[one]],
                "x",
                color=HARM,
                ms=7,
                label="the same on test" if number == 0 else None,
            )
    axes.set_xlabel(f"{two} ({found.objectives[1].direction})")
    axes.set_ylabel(f"{one} ({found.objectives[0].direction})")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return svg(figure)


def history_plot(found: Summary, done: Sequence[Trial]) -> str:
    """The objective trial by trial, and the best so far."""
    objective = found.objectives[0]
    figure, axes = figure_and_axes(9.6, 3.6)
    numbers, values = [t.number for t in done], [t.validation[objective.quantity] for t in done]
    running = np.maximum.accumulate(values) if objective.direction == "maximize" else np.minimum.accumulate(values)
    axes.plot(numbers, values, "o", color=BEFORE, ms=4, label="trials")
    axes.step(numbers, running, where="post", color=AFTER, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{objective.quantity} on validation")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return svg(figure)


def importance_plot(found: Summary) -> str:
    """fANOVA's share of the variance, by quantity."""
    shown = [effect for effect in found.effects if effect.importance is not None]
    quantities = list(dict.fromkeys(effect.quantity for effect in shown))
    parameters = list(dict.fromkeys(effect.parameter for effect in shown))
    figure, axes = figure_and_axes(9.6, 1.0 + 0.26 * len(parameters) * len(quantities))
    colours = ["#1f6feb", "#c2410c", "#2da44e", "#8250df", "#bf8700", "#57606a"]
    for number, quantity in enumerate(quantities):
        share = {e.parameter: 100 * (e.importance or 0) for e in shown if e.quantity == quantity}
        places = [row + (number - (len(quantities) - 1) / 2) * 0.8 / len(quantities) for row in range(len(parameters))]
        axes.barh(
            places,
            [share.get(p, 0) for p in parameters],
            0.75 / len(quantities),
            color=colours[number % 6],
            label=quantity,
        )
    axes.set_yticks(range(len(parameters)), parameters)
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance over trials [%]")
    axes.legend(frameon=False)
    return svg(figure)


def parallel_plot(found: Summary, done: Sequence[Trial], section: Search) -> str:
    """One line a trial through its values, coloured by the first objective."""
    objective = found.objectives[0].quantity
    paths = [p.path for p in section.parameters if any(p.path in t.parameters for t in done)]
    results = np.array([t.validation[objective] for t in done])
    figure, axes = figure_and_axes(9.6, 4.2)
    import matplotlib

    shade = matplotlib.colormaps["viridis"]
    low, high = float(results.min()), float(results.max())
    columns = [_positions([t.parameters.get(path) for t in done], path, section) for path in paths]
    columns.append((results - low) / max(high - low, 1e-12))
    for row in np.argsort(results):
        heights = [column[row] for column in columns]
        axes.plot(
            range(len(columns)), heights, color=shade((results[row] - low) / max(high - low, 1e-12)), lw=1.0, alpha=0.7
        )
    axes.set_xticks(range(len(columns)), [*paths, objective], rotation=15, ha="right")
    for place, path in enumerate(paths):
        least, most = _ends([t.parameters.get(path) for t in done])
        axes.annotate(least, (place, -0.03), ha="center", va="top", fontsize=7)
        axes.annotate(most, (place, 1.02), ha="center", fontsize=7)
    axes.annotate(f"{low:.3f}", (len(paths), -0.03), ha="center", va="top", fontsize=7)
    axes.annotate(f"{high:.3f}", (len(paths), 1.02), ha="center", fontsize=7)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.1)
    return svg(figure)


def slice_plots(found: Summary, done: Sequence[Trial], section: Search) -> str:
    """Each parameter against the first objective."""
    objective = found.objectives[0].quantity
    pages = []
    for parameter in section.parameters:
        pairs = [
            (t.parameters[parameter.path], t.validation[objective]) for t in done if parameter.path in t.parameters
        ]
        if len({value for value, _ in pairs}) < 2:
            continue
        figure, axes = figure_and_axes(4.6, 2.8)
        values: list[Any] = [value for value, _ in pairs]
        if parameter.choices:
            values = [str(value) for value in values]
        axes.plot(values, [result for _, result in pairs], "o", color=AFTER, ms=4, alpha=0.7)
        if parameter.log:
            axes.set_xscale("log")
        axes.set_xlabel(parameter.path)
        axes.set_ylabel(objective)
        axes.grid(alpha=0.25)
        pages.append(svg(figure))
    return "".join(f"<span style='display:inline-block;max-width:49%'>{page}</span>" for page in pages)


def _positions(values: Sequence[Any], path: str, section: Search) -> Any:
    parameter = next(p for p in section.parameters if p.path == path)
    if parameter.choices:
        order = [str(value) for value in sorted({str(v) for v in values if v is not None})]
        return np.array([math.nan if v is None else order.index(str(v)) / max(len(order) - 1, 1) for v in values])
    numbers = np.array([math.nan if v is None else math.log(v) if parameter.log else float(v) for v in values])
    return (numbers - np.nanmin(numbers)) / max(float(np.nanmax(numbers) - np.nanmin(numbers)), 1e-12)


def _ends(values: Sequence[Any]) -> tuple[str, str]:
    known = [v for v in values if v is not None]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return f"{min(known):.3g}", f"{max(known):.3g}"
    names = sorted({str(v) for v in known})
    return names[0], names[-1]


def _shown(values: Any, name: str) -> str:
    value = values.get(name)
    if value is None:
        return "-"
    low, high = values.get(f"{name}/low"), values.get(f"{name}/high")
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None and low == low else "")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"
