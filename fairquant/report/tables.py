"""The table of a comparison as rows of text, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairquant.report.comparison import Comparison, Row


@dataclass(frozen=True)
class Entry:
    """One cell of the table. best: the best mean of its column; significant: differs from the reference (interval without 0)."""

    text: str
    best: bool = False
    significant: bool = False


def header(comparison: Comparison) -> list[str]:
    arrows = [f"{name} {'↓' if name in comparison.lower else '↑'}" for name in comparison.columns]
    return ["method", "accept", "bits", "MB", *arrows]


def entries(comparison: Comparison, row: Row) -> list[Entry]:
    """A row's cells after its name."""
    if not row.metrics:
        return [Entry("-") for _ in range(3 + len(comparison.columns))]
    cells = [Entry(row.answer), Entry(number(row.bits.mean, 2)), Entry(number(row.megabytes.mean, 2))]
    for column in comparison.columns:
        spread = row.metrics[column]
        text = number(spread.mean, 3) + ("" if math.isnan(spread.deviation) else f" ± {spread.deviation:.3f}")
        difference = row.against.get(column)
        best = row.method != "fp32" and spread.mean == comparison.best(column)
        cells.append(Entry(text, best, difference is not None and difference.significant))
    return cells


def permutation_entries(comparison: Comparison) -> list[Entry]:
    """The last row: what each gap would be if the groups had no meaning."""
    return [
        Entry(""),
        Entry(""),
        Entry(""),
        *(
            Entry(number(comparison.permutation_baselines[c], 3) if c in comparison.permutation_baselines else "")
            for c in comparison.columns
        ),
    ]


PERMUTATION = "permutation baseline"


def answers(comparison: Comparison) -> list[str]:
    """Which methods keep the recipe's limits, and the worst that each took from anybody in its first seed with such a loss."""
    said = {"FAIL": "break a limit", "CANNOT TELL": "cannot be judged: too few test images", "PASS": "keep every limit"}
    lines = []
    for answer, meaning in said.items():
        names = [row.name for row in comparison.rows if row.answer == answer]
        if names:
            lines.append(f"{answer}: {', '.join(names)} {meaning if len(names) > 1 else _one(meaning)}.")
    return [*lines, *(f"{row.name}, {row.lost[0]}" for row in comparison.rows if row.lost)]


def _one(meaning: str) -> str:
    verb, _, rest = meaning.partition(" ")
    return f"{verb if verb == 'cannot' else verb + 's'} {rest}"


def number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def notes(comparison: Comparison) -> list[str]:
    """What the marks mean, and what went wrong."""
    return [*meanings(comparison), *problems(comparison)]


def problems(comparison: Comparison) -> list[str]:
    """What went wrong, by row."""
    return [f"{row.name}: {problem}" for row in comparison.rows for problem in row.problems]


def meanings(comparison: Comparison) -> list[str]:
    """What the marks and columns mean."""
    seeds = sorted({seed for row in comparison.rows for seed in row.seeds})
    of = "One seed, " if len(seeds) == 1 else "Mean ± standard deviation over seeds "
    one, several = comparison.references[0], len(comparison.references) > 1
    against = (
        f"{one.split(' @ ')[0]} at the same budget (where it has none: at the one nearest in bits)" if several else one
    )
    permuted = f"{one.split(' @ ')[0]} (mean over budgets)" if several else one
    lines = [
        f"{of}{', '.join(map(str, seeds))}. Bold: the best mean among quantized methods, whatever their bits.",
        f"*: differs from {against} on the same test images (paired bootstrap, 95 % interval without 0). "
        "Many cells are compared: about one in twenty is marked by chance alone.",
        f"Permutation baseline: each gap with the groups of the test images permuted, predictions of {permuted}. "
        "A gap near it is no evidence of a difference between groups.",
        "accept: the worst answer over seeds to the recipe's limits, against the full-precision model of the seed.",
        "All methods start from the same full-precision model of each seed; rows that train have the same epochs (-ptq: none).",
    ]
    if any(row.method == "fp32" for row in comparison.rows):
        lines.append(
            "fp32: the full-precision model trained for these epochs as well, and so not the one that is compared with."
        )
    if comparison.recipe.demo:
        lines.insert(0, "DEMO: synthetic images and a few epochs. The numbers mean nothing.")
    return lines


def markdown(comparison: Comparison) -> str:
    """The table, and under it what it means."""
    return "\n".join([markdown_table(comparison), "", *hard_lines([*answers(comparison), *notes(comparison)]), ""])


def hard_lines(texts: Sequence[str]) -> list[str]:
    """Lines of Markdown that stay lines."""
    return [f"{text}  " for text in texts]


def markdown_table(comparison: Comparison) -> str:
    lines = ["| " + " | ".join(header(comparison)) + " |", "|---" * len(header(comparison)) + "|"]
    for row in comparison.rows:
        cells = [f"**{e.text}**" if e.best else e.text for e in entries(comparison, row)]
        marks = ["\\*" if e.significant else "" for e in entries(comparison, row)]
        lines.append(f"| {row.name} | " + " | ".join(c + m for c, m in zip(cells, marks, strict=True)) + " |")
    lines.append(f"| {PERMUTATION} | " + " | ".join(entry.text for entry in permutation_entries(comparison)) + " |")
    return "\n".join(lines)


def latex(comparison: Comparison) -> str:
    """booktabs, ready to paste."""

    def safe(text: str) -> str:
        for raw, escaped in (("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#")):
            text = text.replace(raw, escaped)
        return text.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$").replace("±", r"$\pm$")

    lines = [r"\begin{tabular}{ll" + "r" * (2 + len(comparison.columns)) + "}", r"\toprule"]
    lines += [" & ".join(map(safe, header(comparison))) + r" \\", r"\midrule"]
    for row in comparison.rows:
        cells = [(rf"\textbf{{{safe(e.text)}}}" if e.best else safe(e.text)) + ("$^*$" if e.significant else "")
                 for e in entries(comparison, row)]  # fmt: skip
        lines.append(" & ".join([safe(row.name), *cells]) + r" \\")
    lines += [
        r"\midrule",
        " & ".join([PERMUTATION, *(entry.text for entry in permutation_entries(comparison))]) + r" \\",
    ]
    lines += [r"\bottomrule", r"\end{tabular}", *[f"% {note}" for note in notes(comparison)]]
    return "\n".join(lines) + "\n"
