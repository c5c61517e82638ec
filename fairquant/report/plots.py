"""Plots of runs and comparisons, as SVG text that needs no network and is the same for the same numbers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fairquant.recipe.events import IntervalReport
from fairquant.report.comparison import Row
from fairquant.roles import BitPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE, AFTER, HARM, FLIP = "#9aa5b1", "#1f6feb", "#c2410c", "#f0b27a"
Interval = tuple[float, float, float]
#: Colours of bits: darker is more. Layers beside each other of which the numbers are written.
BITS, NUMBERED = "viridis_r", 30


def figure_and_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def svg(figure: Figure, cut_to_content: bool = False) -> str:
    """The figure as an SVG element."""
    import matplotlib
    from matplotlib.text import Text

    stream = io.StringIO()
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)  # a group may be called $x_$
    with warnings.catch_warnings(), matplotlib.rc_context(
        {
            "svg.hashsalt": "fairquant", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
            "text.parse_math": False,
        }
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # names of hundreds of letters
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None},
            bbox_inches="tight" if cut_to_content else None,
        )  # fmt: skip
    drawn = stream.getvalue()
    return drawn[drawn.index("<svg") :]


def accuracy_by_group(before: Mapping[str, Interval], after: Mapping[str, Interval], images: Mapping[str, int]) -> str:
    """Points with intervals, full precision above quantized, one row a group."""
    figure, axes = figure_and_axes(7.2, 0.9 + 0.62 * len(after))
    for row, name in enumerate(after):
        for offset, values, colour, label in (
            (-0.14, before, BEFORE, "full precision"),
            (0.14, after, AFTER, "this model"),
        ):
            value, low, high = (100 * number for number in values[name])
            axes.plot([low, high], [row + offset] * 2, color=colour, lw=2.2, solid_capstyle="butt")
            axes.plot([value], [row + offset], "o", color=colour, ms=6, label=label if row == 0 else None)
    axes.set_yticks(range(len(after)), [f"{name}\n{images[name]} images" for name in after])
    axes.set_ylim(len(after) - 0.5, -0.5)
    axes.set_xlabel("accuracy on test [%], 95 % interval")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22 if len(after) < 3 else 1.14), ncols=2, frameon=False)
    return svg(figure)


def flips_by_group(flips: Mapping[str, IntervalReport], harmful: Mapping[str, IntervalReport]) -> str:
    """Fractions of predictions that changed and of images newly misclassified, with intervals."""
    figure, axes = figure_and_axes(7.2, 0.9 + 0.62 * len(flips))
    for row, name in enumerate(flips):
        for offset, changes, colour, label in (
            (-0.16, flips, FLIP, "prediction changed"), (0.16, harmful, HARM, "newly misclassified"),
        ):  # fmt: skip
            interval = changes[name]
            value, low, high = (100 * (each or 0.0) for each in (interval["value"], interval["low"], interval["high"]))
            axes.barh(row + offset, value, height=0.3, color=colour, label=label if row == 0 else None)
            axes.plot([low, high], [row + offset] * 2, color="#333", lw=1.2)
    axes.set_yticks(range(len(flips)), list(flips))
    axes.set_ylim(len(flips) - 0.5, -0.5)
    axes.set_xlabel("fraction of the group's test images [%], 95 % interval")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22 if len(flips) < 3 else 1.14), ncols=2, frameon=False)
    return svg(figure)


def bits_per_layer(plan: BitPlan) -> str:
    """One stacked bar a layer: the fraction of its weights at each width, darker is more bits."""
    from matplotlib import colormaps

    names = list(plan.bits)
    figure, axes = figure_and_axes(7.2, 1.1 + 0.2 * len(names))
    colours = colormaps[BITS]
    left = np.zeros(len(names))
    for width in range(9):
        fractions = np.array([float((bits == width).double().mean()) for bits in plan.bits.values()])
        if fractions.any():
            colour = colours(width / 8)
            axes.barh(range(len(names)), 100 * fractions, left=left, color=colour, label=f"{width}", height=0.85)
            left += 100 * fractions
    for row, bits in enumerate(plan.bits.values()):
        axes.text(101, row, f"{float(bits.double().mean()):.1f}", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 108)
    axes.set_xlabel("fraction of the layer's weights [%]; its average bits at the right")
    axes.legend(title="bits", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=9, frameon=False, fontsize=8)
    return svg(figure)


#: Methods that fit on a page without scrolling.
FITTING = 40


def pareto(rows: list[Row]) -> str:
    """Mean worst-group accuracy against average bits, one point a method, with intervals; full precision as a line."""
    figure, axes = figure_and_axes(max(9.6, 1.2 + 0.2 * len(rows)), 5.2)  # more than FITTING rows: wider, and scrolled
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
        figure.legend(loc="outside lower left", frameon=False)
    return svg(figure)


def changes(rows: list[Row]) -> str:
    """Accuracy against the full-precision model by group, mean over seeds, bars of one standard deviation."""
    groups = list(rows[0].change)
    figure, axes = figure_and_axes(9.6, 1.1 + 0.34 * len(rows))
    colours, markers = ["#1f6feb", "#c2410c", "#2da44e", "#8250df", "#bf8700", "#57606a"], "osD^vP"
    for number, group in enumerate(groups):
        offset = (number - (len(groups) - 1) / 2) * 0.6 / max(len(groups), 1)
        for place, row in enumerate(rows):
            spread, colour = row.change[group], colours[number % len(colours)]
            if np.isfinite(spread.deviation):
                reach = [100 * (spread.mean - spread.deviation), 100 * (spread.mean + spread.deviation)]
                axes.plot(reach, [place + offset] * 2, color=colour, lw=1.4, alpha=0.6)
            axes.plot(
                [100 * spread.mean], [place + offset], markers[number % len(markers)], color=colour, ms=5, ls="none",
                label=group if place == 0 else None,
            )  # fmt: skip
    axes.axvline(0, color="#1b1f24", lw=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("change of accuracy against full precision [points], mean and standard deviation over seeds")
    axes.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside upper left", frameon=False, ncols=4)
    return svg(figure)


def bits_by_method(rows: list[Row]) -> str:
    """Average bits of every layer, methods below each other."""
    names = list(rows[0].layers)
    table = np.array([[row.layers.get(name, np.nan) for name in names] for row in rows])
    figure, axes = figure_and_axes(9.6, 1.4 + 0.28 * len(rows))
    image = axes.imshow(table, aspect="auto", cmap=BITS, vmin=0, vmax=8)
    if len(names) <= NUMBERED:
        for (row, column), bits in np.ndenumerate(table):
            if np.isfinite(bits):
                colour = "white" if bits > 4 else "#1b1f24"
                axes.text(column, row, f"{bits:.1f}", ha="center", va="center", fontsize=6, color=colour)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    step = max(1, len(names) // 24)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=70, ha="right", fontsize=7)
    figure.colorbar(image, ax=axes, label="bits", fraction=0.03)
    return svg(figure)
