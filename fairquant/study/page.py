"""compare.html: one page that needs nothing else, the table first, then the pictures."""

from __future__ import annotations

from html import escape

import numpy as np

from fairquant.audit.page import STYLE
from fairquant.audit.plots import AFTER, BEFORE, figure_and_axes, svg
from fairquant.study.compare import Comparison, Row
from fairquant.study.tables import FLOOR, entries, floor_entries, header, notes

MORE = """main{max-width:1180px}td.best{font-weight:700}td.clear::after{content:"*";color:#c2410c}tr.reference{background:#eef4ff}
.wide svg{max-width:none}"""


def comparison_page(found: Comparison) -> str:
    good = [row for row in found.rows if row.metrics]
    methods = len({row.method for row in found.rows})
    rows = "" if methods == len(found.rows) else f", {len(found.rows)} rows"
    title = f"{found.recipe.name}: {methods} methods compared{rows}"
    sections = [
        _section("The table", _table(found) + "".join(f"<p class='muted'>{escape(note)}</p>" for note in notes(found)))
    ]
    if good and "worst-group-accuracy" in good[0].metrics:
        sections.append(_section("Worst-group accuracy against bits", f"<div class='scroll wide'>{pareto(good)}</div>"))
    if good:
        sections.append(_section("What compression changed, by group", changes(good)))
    if any(row.layers for row in good):
        sections.append(_section("Bits per layer", layers([row for row in good if row.layers])))
    demo = "<section class='demo'>DEMO: the numbers mean nothing.</section>" if found.recipe.demo else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>FairQuant: {escape(title)}</title><style>{STYLE}{MORE}</style></head><body><main>"
        f"<p class='muted'>FairQuant comparison</p><h1>{escape(title)}</h1>{demo}{''.join(sections)}</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(found: Comparison) -> str:
    lines = [
        "<div class='scroll'><table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in header(found)) + "</tr>"
    ]
    for row in found.rows:
        kind = " class='reference'" if row.name in found.references else ""
        cells = "".join(
            f"<td class='{'best ' if entry.best else ''}{'clear' if entry.clear else ''}'>{escape(entry.text)}</td>"
            for entry in entries(found, row)
        )
        lines.append(f"<tr{kind}><td>{escape(row.name)}</td>{cells}</tr>")
    floor = "".join(f"<td>{entry.text}</td>" for entry in floor_entries(found))
    return "".join(lines) + f"<tr class='muted'><td>{FLOOR}</td>{floor}</tr></table></div>"


def pareto(rows: list[Row]) -> str:
    """Mean worst-group accuracy against average bits, one point a method, with intervals; full precision as a line."""
    figure, axes = figure_and_axes(max(9.6, 1.2 + 0.2 * len(rows)), 5.2)  # many rows: wider, and scrolled
    for row in rows:
        if row.bits.mean >= 16:
            axes.axhline(100 * row.metrics["worst-group-accuracy"].mean, color=BEFORE, ls="--", lw=1.2, label=row.name)
    slots: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if row.bits.mean < 16), key=lambda row: (row.bits.mean, row.name)):
        slots.setdefault(f"{row.bits.mean:.2f}".rstrip("0").rstrip("."), []).append(row)
    place, names = 0, {}
    top = axes.secondary_xaxis("top")
    ticks = []
    for members in slots.values():  # methods with the same bits stand side by side below them
        if place:
            axes.axvline(place - 1, color="#d0d7de", lw=0.8)
        ticks.append(place + (len(members) - 1) / 2)
        for row in members:
            low, high = (100 * end for end in row.worst)
            colour = AFTER if row.method.startswith("fq-") else "#57606a"
            axes.plot([place, place], [low, high], color=colour, lw=1.4, alpha=0.55)
            axes.plot([place], [100 * row.metrics["worst-group-accuracy"].mean], "o", color=colour, ms=6)
            names[place] = row.method
            place += 1
        place += 1
    axes.set_xticks(list(names), list(names.values()), rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    top.set_xticks(ticks, list(slots))
    top.spines["top"].set_visible(False)
    for axis in (axes, top):
        axis.tick_params(axis="x", length=0)
    top.set_xlabel("average bits per weight; methods of the same bits side by side")
    axes.set_ylabel("worst-group accuracy on test [%], 95 % interval")
    axes.grid(alpha=0.25, axis="y")
    if any(row.bits.mean >= 16 for row in rows):
        axes.legend(frameon=False, loc="best")
    return svg(figure)


def changes(rows: list[Row]) -> str:
    """Accuracy against the full-precision model by group, mean over seeds, bars of one standard deviation."""
    groups = list(rows[0].change)
    figure, axes = figure_and_axes(9.6, 1.1 + 0.34 * len(rows))
    colours = ["#1f6feb", "#c2410c", "#2da44e", "#8250df", "#bf8700", "#57606a"]
    for number, group in enumerate(groups):
        offset = (number - (len(groups) - 1) / 2) * 0.6 / max(len(groups), 1)
        for place, row in enumerate(rows):
            spread, colour = row.change[group], colours[number % len(colours)]
            if np.isfinite(spread.deviation):
                reach = [100 * (spread.mean - spread.deviation), 100 * (spread.mean + spread.deviation)]
                axes.plot(reach, [place + offset] * 2, color=colour, lw=1.4, alpha=0.6)
            axes.plot(
                [100 * spread.mean], [place + offset], "o", color=colour, ms=5, label=group if place == 0 else None
            )
    axes.axvline(0, color="#1b1f24", lw=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("change of accuracy against full precision [points], mean and standard deviation over seeds")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (1 + 0.3 * len(rows))), ncols=4)
    return svg(figure)


def layers(rows: list[Row]) -> str:
    """Average bits of every layer, methods below each other."""
    names = list(rows[0].layers)
    table = np.array([[row.layers.get(name, np.nan) for name in names] for row in rows])
    figure, axes = figure_and_axes(9.6, 1.4 + 0.28 * len(rows))
    image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    step = max(1, len(names) // 24)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=70, ha="right", fontsize=7)
    figure.colorbar(image, ax=axes, label="bits", fraction=0.03)
    return svg(figure)
