"""The data as they were read, on one page: rows that were dropped and why, every class in every group, and what to look at."""

from __future__ import annotations

from collections.abc import Sequence

from fairquant.data.describe import cells
from fairquant.recipe.schema import Recipe
from fairquant.report.pages import templates
from fairquant.roles.dataset import Splits

#: What the counts of reading mean, in the order of reading; others are shown by their own names.
REASONS = {
    "dropped_unlabelled": "without a label, or with one that is dropped",
    "dropped_wrongly_labelled": "marked as wrongly labelled",
    "dropped_in_no_list": "in none of the lists of the splits",
    "dropped_unknown": "with an unknown attribute",
    "without_image": "without an image file",
    "dropped_listed_twice": "listed before",
    "undecodable": "whose image does not decode",
    "dropped_on_two_sides": "whose picture is in test or validation as well",
}
KEPT = ("rows", "copies")  # counts of what is not dropped


def dropped(splits: Splits) -> list[tuple[str, int]]:
    """Why rows were dropped, and how many."""
    counts = splits.counts
    known = [(f"rows {text}", counts[name]) for name, text in REASONS.items() if counts.get(name)]
    others = [(name.replace("_", " "), n) for name, n in counts.items() if name not in (*REASONS, *KEPT) and n]
    return [*known, *others]


def used(splits: Splits) -> int:
    return len(splits.train) + len(splits.validation) + len(splits.test)


def reading_rows(splits: Splits) -> list[list[str]]:
    """From the rows of the table to the images that are used."""
    rows = [["rows of the table", str(splits.counts["rows"])]] if "rows" in splits.counts else []
    rows += [[text, str(number)] for text, number in dropped(splits)]
    return [*rows, ["images used", str(used(splits))]]


def data_page(recipe: Recipe, splits: Splits, notes: Sequence[str]) -> str:
    """The page of `fairquant data check`."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    by_split = [["all", *(str(len(part)) for part in parts.values())]]
    for names, kind in ((splits.class_names, "class"), (splits.group_names, "group")):
        for number, name in enumerate(names):
            members = (part.labels if kind == "class" else part.groups for part in parts.values())
            by_split.append([f"{kind} {name}", *(str(int((each == number).sum())) for each in members)])
    return templates().get_template("data.html").render(
        kind="data", narrow=False, demo=recipe.demo, title=f"{recipe.name}: data as read", notes=notes,
        reading=reading_rows(splits), by_split=by_split, attributes=" x ".join(splits.attributes),
        cells=_cells(splits),
        groups=list(splits.group_names), splits_given=splits.given,
    )  # fmt: skip


def _cells(splits: Splits) -> list[list[str]]:
    table = cells(splits)
    rows = [
        [name, *map(str, counts), str(int(counts.sum()))]
        for name, counts in zip(splits.class_names, table, strict=True)
    ]
    return [*rows, ["all", *map(str, table.sum(0)), str(int(table.sum()))]]
