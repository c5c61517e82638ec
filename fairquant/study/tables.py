"""The table of a comparison as rows of text, Markdown and LaTeX."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairquant.study.compare import Comparison, Row


@dataclass(frozen=True)
class Entry:
    """One cell of the table. best: the best mean of its column; clear: differs from the reference (interval without 0)."""

    text: str
    best: bool = False
    clear: bool = False


def header(found: Comparison) -> list[str]:
    arrows = [f"{name} {'↓' if name in found.lower else '↑'}" for name in found.columns]
    return ["method", "bits", "MB", *arrows]


def entries(found: Comparison, row: Row) -> list[Entry]:
    """A row's cells after its name."""
    if not row.metrics:
        return [Entry("-") for _ in range(2 + len(found.columns))]
    cells = [Entry(number(row.bits.mean, 2)), Entry(number(row.megabytes.mean, 2))]
    for column in found.columns:
        spread = row.metrics[column]
        text = number(spread.mean, 3) + ("" if math.isnan(spread.deviation) else f" ± {spread.deviation:.3f}")
        difference = row.against.get(column)
        best = row.method != "fp32" and spread.mean == found.best(column)
        cells.append(Entry(text, best, difference is not None and difference.clear))
    return cells


def floor_entries(found: Comparison) -> list[Entry]:
    """The last row: what each gap would be if groups meant nothing."""
    return [
        Entry(""),
        Entry(""),
        *(Entry(number(found.floors[c], 3) if c in found.floors else "") for c in found.columns),
    ]


FLOOR = "null floor"


def number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def notes(found: Comparison) -> list[str]:
    """What the marks mean, and what went wrong."""
    seeds = sorted({seed for row in found.rows for seed in row.seeds})
    of = "One seed, " if len(seeds) == 1 else "Mean ± standard deviation over seeds "
    one, several = found.references[0], len(found.references) > 1
    against = (
        f"{one.split(' @ ')[0]} at the same budget (where it has none: at the one nearest in bits)" if several else one
    )
    permuted = f"{one.split(' @ ')[0]} (mean over budgets)" if several else one
    lines = [
        f"{of}{', '.join(map(str, seeds))}. Bold: the best mean among quantized methods, whatever their bits.",
        f"*: differs from {against} on the same test images (paired bootstrap, 95 % interval without 0). "
        "Many cells are compared: one in twenty would be marked by chance alone.",
        f"Null floor: each gap with the groups of the test images permuted, predictions of {permuted}. "
        "A gap at its floor shows nothing.",
        "All methods start from the same full-precision model of each seed; rows that train have the same epochs.",
    ]
    if found.recipe.demo:
        lines.insert(0, "DEMO: synthetic images and a few epochs. The numbers mean nothing.")
    lines += [f"{row.name}: {problem}" for row in found.rows for problem in row.problems]
    return lines


def markdown(found: Comparison) -> str:
    lines = ["| " + " | ".join(header(found)) + " |", "|---" * len(header(found)) + "|"]
    for row in found.rows:
        cells = [f"**{e.text}**" if e.best else e.text for e in entries(found, row)]
        marks = ["\\*" if e.clear else "" for e in entries(found, row)]
        lines.append(f"| {row.name} | " + " | ".join(c + m for c, m in zip(cells, marks, strict=True)) + " |")
    lines.append(f"| {FLOOR} | " + " | ".join(entry.text for entry in floor_entries(found)) + " |")
    return "\n".join([*lines, "", *[f"{note}  " for note in notes(found)], ""])


def latex(found: Comparison) -> str:
    """booktabs, ready to paste."""

    def safe(text: str) -> str:
        for raw, escaped in (("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#")):
            text = text.replace(raw, escaped)
        return text.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$").replace("±", r"$\pm$")

    lines = [r"\begin{tabular}{l" + "r" * (2 + len(found.columns)) + "}", r"\toprule"]
    lines += [" & ".join(map(safe, header(found))) + r" \\", r"\midrule"]
    for row in found.rows:
        cells = [(rf"\textbf{{{safe(e.text)}}}" if e.best else safe(e.text)) + ("$^*$" if e.clear else "")
                 for e in entries(found, row)]  # fmt: skip
        lines.append(" & ".join([safe(row.name), *cells]) + r" \\")
    lines += [r"\midrule", " & ".join([FLOOR, *(entry.text for entry in floor_entries(found))]) + r" \\"]
    lines += [r"\bottomrule", r"\end{tabular}", *[f"% {note}" for note in notes(found)]]
    return "\n".join(lines) + "\n"
