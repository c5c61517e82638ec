"""Several comparisons on one page, in the layout of the FairQuant paper's tables: by data set, then network, then method."""

from __future__ import annotations

import os

from fairquant.report.comparison import Comparison, Grid
from fairquant.report.pages import templates
from fairquant.report.tables import answers, entries, hard_lines, header, latex, markdown_table, meanings, problems


def grid_page(grid: Grid) -> str:
    """compare.html: one table for each recipe, with a block of rows for each network; a link to the page of each."""
    first = grid.comparisons[0]
    parts = [
        {"name": _of_recipe(own[0]), "header": ["network", *header(own[0])], "blocks": [_block(grid, each) for each in own]}
        for own in map(grid.of_recipe, grid.recipes)
    ]  # fmt: skip
    return templates().get_template("grid.html").render(
        kind="comparison", narrow=False, demo=first.recipe.demo, parts=parts, notes=said_once(grid), limits=_limits(grid),
        title=f"{_counted(len({row.method for row in first.rows}), 'method')} on {_counted(len(grid.recipes), 'recipe')} and "
        f"{_counted(len({each.recipe.model.name for each in grid.comparisons}), 'network')}",
    )  # fmt: skip


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


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


def said_once(grid: Grid) -> list[str]:
    """What the marks mean, once where it is the same for several comparisons; then what went wrong, and where."""
    said = dict.fromkeys(meaning for each in grid.comparisons for meaning in meanings(each))
    return [*said, *(f"{subject(each)}: {problem}" for each in grid.comparisons for problem in problems(each))]


def _limits(grid: Grid) -> list[str]:
    return [f"{subject(each)}: {answer}" for each in grid.comparisons for answer in answers(each)]


def _of_recipe(comparison: Comparison) -> str:
    recipe = comparison.recipe
    return f"{recipe.name}: {recipe.dataset.name}"


def subject(comparison: Comparison) -> str:
    """The recipe and the network."""
    return f"{comparison.recipe.name}, {comparison.recipe.model.name}"


def grid_markdown(grid: Grid) -> str:
    """The table of each comparison under its name, then what they mean."""
    tables = [f"## {subject(each)}\n\n{markdown_table(each)}\n" for each in grid.comparisons]
    return "\n".join([*tables, *hard_lines(said_once(grid)), "", *hard_lines(_limits(grid)), ""])


def grid_latex(grid: Grid) -> str:
    """booktabs, a table for each comparison."""
    return "\n".join(f"% {subject(each)}\n{latex(each)}" for each in grid.comparisons)
