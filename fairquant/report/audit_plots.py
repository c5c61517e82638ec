"""Pictures of the audit: limits and what was measured, confusion, ROC curves, calibration, and what abstaining would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.confusion import confusion_tensor
from fairquant.audit.roc import roc_curve
from fairquant.audit.scopes import ALL
from fairquant.recipe.events import Answer, LimitReport
from fairquant.report.answer import excess, images
from fairquant.report.plots import AFTER, BEFORE, figure_and_axes, svg
from fairquant.roles import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and marker of each answer: the marker says it, too.
ANSWERS: dict[Answer, tuple[str, str]] = {
    "FAIL": ("#b3261e", "X"),
    "CANNOT TELL": ("#8a6100", "D"),
    "PASS": ("#1a6b3c", "o"),
}
MOST_LIMITS, NUMBERED, MOST_DRAWN, BINS = 8, 12, 30, 10
Floats = NDArray[np.float64]


def limits(reports: Sequence[LimitReport]) -> str:
    """Each loss or rise with its interval beside its limit, those that are broken first; at most MOST_LIMITS."""
    shown = _drawable(reports)
    shown = sorted(
        shown,
        key=lambda each: (list(ANSWERS).index(each["answer"]), -excess(each), -(each["high"] or 0.0) + each["limit"]),
    )
    shown = shown[:MOST_LIMITS]
    if not shown:
        return ""
    figure, axes = figure_and_axes(7.2, 1.0 + 0.4 * len(shown))
    for row, each in enumerate(shown):
        colour, marker = ANSWERS[each["answer"]]
        value, low, high = (100 * (each[key] or 0.0) for key in ("value", "low", "high"))
        axes.plot([low, high], [row, row], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot([value], [row], marker, color=colour, ms=7, mec="white", mew=0.8)
        axes.plot([100 * each["limit"]] * 2, [row - 0.25, row + 0.25], color="#1b1f24", lw=1.6)
        name = f"{each['name']}  ({images(each['images'])}): {each['answer']}"  # above its line, for narrow screens
        axes.text(0, row - 0.34, name, transform=axes.get_yaxis_transform(), fontsize=8.5, va="center")
    axes.axvline(0, color="#9aa5b1", lw=0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(shown) - 0.55, -0.7)
    axes.set_xlabel("loss in points; beyond the limit is right of its line")
    axes.grid(axis="x", alpha=0.25)
    for answer, (colour, marker) in ANSWERS.items():
        axes.plot([], [], marker, color=colour, ms=7, ls="none", label=answer)
    axes.plot([], [], color="#1b1f24", lw=1.6, label="limit")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, fontsize=9, borderaxespad=0)
    return svg(figure)


def _drawable(reports: Sequence[LimitReport]) -> list[LimitReport]:
    return [each for each in reports if each["kind"] in ("loss", "rise") and each["value"] is not None]


def shown_limits(reports: Sequence[LimitReport]) -> str:
    """How many of the limits the picture shows; "" where it shows all."""
    shown = min(len(_drawable(reports)), MOST_LIMITS)
    return "" if shown == len(reports) else f"The picture shows {shown} of {len(reports)} limits; all are in the table."


def confusion(before: Predictions, after: Predictions, group: int | None = None) -> str:
    """Confusion matrices before and after and their difference, of all images or of a group: rows are true classes."""
    tables = [confusion_tensor(each) for each in (before, after)]
    was, now = (table.sum(0) if group is None else table[group] for table in tables)
    classes = len(after.class_names)
    figure, (left, middle, right) = _panels(3, 3.6 if classes <= NUMBERED else 4.2)
    for axes, table, title in ((left, was, "full precision"), (middle, now, "this model")):
        axes.set_title(title, fontsize=10)
        _matrix(axes, table, after.class_names, _shares(table), ("Blues", 0.0, 1.0))
    change = now - was
    most = max(float(np.abs(change).max()), 1.0)
    right.set_title("difference", fontsize=10)
    _matrix(right, change, after.class_names, change, ("PuOr_r", -most, most), signed=True)
    left.set_ylabel("true class")
    return svg(figure)


def _shares(table: Floats) -> Floats:
    """Counts [C, C] as fractions of their row."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = np.nan_to_num(table / table.sum(1, keepdims=True))
    return shares


def _matrix(
    axes: Axes,
    table: Floats,
    names: Sequence[str],
    shade: Floats,
    colours: tuple[str, float, float],
    signed: bool = False,
) -> None:
    """One matrix; the numbers are counts of images."""
    colour_map, low, high = colours
    axes.imshow(shade, cmap=colour_map, vmin=low, vmax=high, aspect="equal")
    axes.set_xlabel("predicted class", fontsize=9)
    step = max(1, len(names) // MOST_DRAWN)
    axes.set_xticks(
        range(0, len(names), step), names[::step], rotation=60, ha="right", rotation_mode="anchor", fontsize=7
    )
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=7)
    if len(names) > NUMBERED:
        return
    for row in range(len(names)):
        for column in range(len(names)):
            number = int(table[row, column])
            dark = abs(shade[row, column]) > 0.55 * max(abs(low), high)
            text = (f"{number:+d}" if number else "") if signed else str(number)
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "#1b1f24")


def roc(before: Predictions, after: Predictions) -> str:
    """ROC curves of both models for all images and each group, with the operating points; both have one."""
    assert before.operating is not None and after.operating is not None
    positive = np.isin(after.labels, after.operating.classes)
    figure, panels = _grid(len(after.group_names) + 1)
    for panel, (name, rows) in zip(panels, _scopes(after), strict=False):
        for each, colour, style, label in ((before, BEFORE, "--", "full precision"), (after, AFTER, "-", "this model")):
            assert each.operating is not None
            scores = each.score(each.operating.classes)[rows]
            if not positive[rows].any() or positive[rows].all():
                continue
            panel.plot(*roc_curve(scores, positive[rows]), color=colour, ls=style, lw=1.8, label=label)
            decided = scores >= each.operating.threshold
            point = decided[~positive[rows]].mean(), decided[positive[rows]].mean()
            panel.plot(
                *point, "s" if each is before else "o", color=colour, ms=10 if each is before else 7, mec="#1b1f24", ls="none",
                clip_on=False, zorder=5, label=f"{label}: its threshold",
            )  # fmt: skip
        panel.plot([0, 1], [0, 1], color="#d0d7de", lw=0.8)
        _panel(panel, name, f"{int(positive[rows].sum())} of {int(rows.sum())} images positive")
        panel.set_xlabel("1 - specificity", fontsize=8)
        panel.set_ylabel("sensitivity", fontsize=8)
    return _with_legend(figure, panels)


def reliability(before: Predictions, after: Predictions) -> str:
    """Accuracy against confidence in bins of equal width, for all images and each group; the bars below count images."""
    figure, panels = _grid(len(after.group_names) + 1)
    edges = np.linspace(0, 1, BINS + 1)
    for panel, (name, rows) in zip(panels, _scopes(after), strict=False):
        panel.plot([0, 1], [0, 1], color="#d0d7de", lw=0.8)
        for each, colour, style, marker in ((before, BEFORE, "--", "s"), (after, AFTER, "-", "o")):
            confidence, right = each.probabilities[rows].max(1), (each.predicted == each.labels)[rows]
            bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
            counts = np.bincount(bins, minlength=BINS)
            used = np.flatnonzero(counts)
            mean = np.bincount(bins, confidence, BINS)[used] / counts[used]
            fraction = np.bincount(bins, right, BINS)[used] / counts[used]
            panel.plot(
                mean,
                fraction,
                style,
                marker=marker,
                color=colour,
                ms=4,
                lw=1.4,
                label="full precision" if each is before else "this model",
            )
            if each is after:
                share = counts / max(counts.sum(), 1)
                panel.bar(edges[:-1] + 0.05, 0.25 * share / max(share.max(), 1e-9), width=0.09, color=AFTER, alpha=0.22)
                for place in used:
                    panel.text(edges[place] + 0.05, 0.01, str(counts[place]), ha="center", fontsize=6, color="#3b424a")
        _panel(panel, name, f"{int(rows.sum())} images")
        panel.set_xlabel("confidence", fontsize=8)
        panel.set_ylabel("accuracy", fontsize=8)
    return _with_legend(figure, panels)


def risk_coverage(before: Predictions, after: Predictions) -> str:
    """Error rate among the images that are answered when a share of the least certain ones is not, for everyone."""
    figure, panels = _grid(len(after.group_names) + 1)
    top = 0.0
    for panel, (name, rows) in zip(panels, _scopes(after), strict=False):
        for each, colour, style in ((before, BEFORE, "--"), (after, AFTER, "-")):
            coverage, risk = risk_curve(each, rows)
            panel.plot(
                coverage,
                risk,
                color=colour,
                ls=style,
                lw=1.6,
                label="full precision" if each is before else "this model",
            )
            top = max(top, float(risk[len(risk) // 10 :].max(initial=0.0)))
        _panel(panel, name, f"{int(rows.sum())} images")
        panel.set_xlabel("share of images answered", fontsize=8)
        panel.set_ylabel("error rate among them", fontsize=8)
    for panel in panels:
        panel.set_ylim(0, min(1.0, 1.15 * top + 0.02))
    return _with_legend(figure, panels)


def risk_curve(predictions: Predictions, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Coverage and error rate [n]: of the n images in rows [N], the most certain first."""
    confidence = predictions.probabilities[rows].max(1)
    wrong = (predictions.predicted != predictions.labels)[rows][np.argsort(-confidence, kind="stable")]
    answered = np.arange(1, len(wrong) + 1)
    return answered / max(len(wrong), 1), np.cumsum(wrong) / answered


def _with_legend(figure: Figure, panels: Sequence[Axes]) -> str:
    """The figure with one legend for all panels, above them and so on no curve."""
    entries = {
        name: handle for panel in panels for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return svg(figure)


def _scopes(predictions: Predictions) -> list[tuple[str, NDArray[np.bool_]]]:
    everyone = np.ones(len(predictions.labels), bool)
    groups = [(name, predictions.groups == number) for number, name in enumerate(predictions.group_names)]
    return [(ALL, everyone), *groups]


def _panel(axes: Axes, title: str, below: str) -> None:
    axes.set_title(f"{title}\n{below}", fontsize=8.5)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.2)


def _panels(count: int, side: float) -> tuple[Figure, list[Axes]]:
    """Panels in one row, each of `side` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side * count, side + 0.5), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Small panels, three in a row."""
    from matplotlib.figure import Figure

    rows = math.ceil(count / 3)
    figure = Figure(figsize=(8.4, 2.9 * rows), layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, 3, squeeze=False)))
    for unused in panels[count:]:
        unused.set_axis_off()
    for panel in panels[:count]:
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure, panels[:count]
