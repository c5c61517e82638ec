"""Several comparisons on one page, in the layout of the FairQuant paper's tables: by data set, then network, then method."""

from __future__ import annotations

import os

from fairquant.report.comparison import Comparison, Grid
from fairquant.report.pages import templates
from fairquant.report.tables import answers, entries, header, latex, markdown, notes


def grid_page(grid: Grid) -> str:
    """compare.html: one table for each recipe, with a block of rows for each network; a link to the page of each."""
    first = grid.comparisons[0]
    parts = [
        {"name": _of_recipe(own[0]), "header": ["network", *header(own[0])], "blocks": [_block(grid, each) for each in own]}
        for own in map(grid.of_recipe, grid.recipes)
    ]  # fmt: skip
    said = list(dict.fromkeys(note for each in grid.comparisons for note in notes(each)[: _common(each)]))
    problems = [f"{_name(each)}: {note}" for each in grid.comparisons for note in notes(each)[_common(each) :]]
    limits = [f"{_name(each)}: {answer}" for each in grid.comparisons for answer in answers(each)]
    return templates().get_template("grid.html").render(
        kind="comparison", narrow=False, demo=first.recipe.demo, parts=parts, notes=[*said, *problems], limits=limits,
        title=f"{len({row.method for row in first.rows})} methods on {len(grid.recipes)} recipes and "
        f"{len({each.recipe.model.name for each in grid.comparisons})} networks",
    )  # fmt: skip


def _block(grid: Grid, comparison: Comparison) -> dict[str, object]:
    """The rows of one network."""
    return {
        "model": comparison.recipe.model.name,
        "link": os.path.relpath(comparison.folder / "compare.html", grid.folder).replace(os.sep, "/"),
        "rows": [
            {"name": row.name, "is_reference": row.name in comparison.references, "entries": entries(comparison, row)}
            for row in comparison.rows
        ],
    }


def _common(comparison: Comparison) -> int:
    """How many of a comparison's notes say what its marks mean; the others are of its own rows."""
    return len(notes(comparison)) - sum(len(row.problems) for row in comparison.rows)


def _of_recipe(comparison: Comparison) -> str:
    recipe = comparison.recipe
    return f"{recipe.name}: {recipe.dataset.name}"


def _name(comparison: Comparison) -> str:
    return f"{comparison.recipe.name}, {comparison.recipe.model.name}"


def grid_markdown(grid: Grid) -> str:
    """The table of each comparison under its name."""
    return "\n".join(f"## {_name(each)}\n\n{markdown(each)}" for each in grid.comparisons)


def grid_latex(grid: Grid) -> str:
    """booktabs, a table for each comparison."""
    return "\n".join(f"% {_name(each)}\n{latex(each)}" for each in grid.comparisons)
