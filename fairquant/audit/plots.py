"""The report's plots, as SVG text that needs no network and is the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BEFORE, AFTER, HARM, FLIP = "#9aa5b1", "#1f6feb", "#c2410c", "#f0b27a"
Interval = tuple[float, float, float]


def figure_and_axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def svg(figure: Any) -> str:
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "fairquant", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    ):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


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


def flips_by_group(flips: Mapping[str, Any], harmful: Mapping[str, Any]) -> str:
    """Share of answers that changed, and of those that became wrong, with intervals."""
    figure, axes = figure_and_axes(7.2, 0.9 + 0.62 * len(flips))
    for row, name in enumerate(flips):
        for offset, part, colour, label in (
            (-0.16, flips, FLIP, "answer changed"), (0.16, harmful, HARM, "right before, wrong now"),
        ):  # fmt: skip
            value, low, high = (100 * (part[name][key] or 0.0) for key in ("value", "low", "high"))
            axes.barh(row + offset, value, height=0.3, color=colour, label=label if row == 0 else None)
            axes.plot([low, high], [row + offset] * 2, color="#333", lw=1.2)
    axes.set_yticks(range(len(flips)), list(flips))
    axes.set_ylim(len(flips) - 0.5, -0.5)
    axes.set_xlabel("share of the group's test images [%], 95 % interval")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22 if len(flips) < 3 else 1.14), ncols=2, frameon=False)
    return svg(figure)


def bits_per_layer(names: Sequence[str], shares: Sequence[Mapping[int, float]], averages: Sequence[float]) -> str:
    """One stacked bar a layer: the share of its weights at each width, darker is more bits."""
    from matplotlib import colormaps

    figure, axes = figure_and_axes(7.2, 1.1 + 0.2 * len(names))
    colours = colormaps["viridis_r"]
    left = np.zeros(len(names))
    for width in range(9):
        part = np.array([share.get(width, 0.0) for share in shares])
        if part.any():
            axes.barh(range(len(names)), 100 * part, left=left, color=colours(width / 8), label=f"{width}", height=0.85)
            left += 100 * part
    for row, average in enumerate(averages):
        axes.text(101, row, f"{average:.1f}", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 108)
    axes.set_xlabel("share of the layer's weights [%]; its average bits at the right")
    axes.legend(title="bits", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=9, frameon=False, fontsize=8)
    return svg(figure)
