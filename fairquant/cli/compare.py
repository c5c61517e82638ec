"""fairquant compare: methods on one budget, the paper's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import Demo, Runs, Strict
from fairquant.cli.run import exit_by
from fairquant.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fairquant.cli.display import Bars
    from fairquant.report.comparison import Cell, Comparison, Grid, Outcome


def compare(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... [KEY=VALUE]...",
            help="Recipe files, or names of those that ship, such as quickstart; then overrides, such as train.epochs=5.",
        ),
    ],
    methods: Annotated[
        str, typer.Option(help="Names separated by commas, all, or paper: those of the FairQuant paper.")
    ] = "fp32,uniform-4,fq-qat,fq-baq",
    seeds: Annotated[str, typer.Option(help="Whole numbers separated by commas.")] = "0",
    models: Annotated[
        str, typer.Option(help="timm names separated by commas, each in place of the recipes' own network.")
    ] = "",
    budgets: Annotated[
        str,
        typer.Option(
            help="Average bits separated by commas, for methods without bits of their own. Default: the recipe's."
        ),
    ] = "",
    against: Annotated[str | None, typer.Option(help="The method that differences are taken from.")] = None,
    columns: Annotated[
        str, typer.Option(help="Metrics to show, separated by commas. Default: those of the recipe.")
    ] = "",
    strict: Strict = False,
    jobs: Annotated[int, typer.Option(min=1, help="Number of runs in parallel.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(help="A database that many machines share, such as postgresql+psycopg://user@host/name."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a database that has stopped answering.")
    ] = 300.0,
    demo: Demo = False,
    runs: Runs = None,
) -> None:
    """Compare methods on the same budget, seeds, epochs and baselines. Finished runs are not run again.

    The same command resumes and, with one --storage, joins from other machines.
    """
    from fairquant.cli.display import Bars
    from fairquant.recipe.presets import library
    from fairquant.registry import discover
    from fairquant.study.grid import chosen_methods

    recipes = [each for each in given if "=" not in each]
    overrides = [each for each in given if "=" in each]
    if not recipes:
        raise UserError("name a recipe, such as: fairquant compare quickstart --demo")
    plugins = discover()
    several = len(recipes) > 1 or bool(models)
    names, numbers = chosen_methods(methods, library(plugins.registry)), _numbers("--seeds", seeds, int)
    widths = _numbers("--budgets", budgets, float)
    bars = Bars()
    with bars:
        from fairquant.study.compare import compare_all

        grid = compare_all(
            recipes, *overrides, methods=names, models=_names(models), seeds=[int(n) for n in numbers], budgets=widths,
            against=against, columns=_names(columns), jobs=jobs, storage=storage, patience=patience, demo=demo, runs=runs,
            plugins=plugins, displays=lambda cell: bars.named(_name(cell, several)), on_done=lambda o: _say(bars, o, several),
        )  # fmt: skip
    if len(grid.comparisons) == 1:
        show(grid.comparisons[0])
    else:
        show_grid(grid)
    _exit(grid.comparisons, strict)


def _exit(comparisons: Sequence[Comparison], strict: bool) -> None:
    """1 where a method has no result; with --strict by the worst answer of any."""
    rows = [row for comparison in comparisons for row in comparison.rows]
    if any(row.problems for row in rows):
        raise typer.Exit(1)
    if strict:
        answers = [row.answer for row in rows]
        exit_by(next((each for each in ("FAIL", "CANNOT TELL") if each in answers), "PASS"))


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    try:
        return [kind(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise UserError(f"{option} {text}: must be numbers with commas, such as 2,42") from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _name(cell: Cell, several: bool) -> str:
    """What progress calls a run; several: recipes or networks."""
    subject = f"{cell.subject.name}: " if several else ""
    return f"{subject}{cell.row}, seed {cell.seed}"


def _say(bars: Bars, outcome: Outcome, several: bool) -> None:
    name = _name(outcome.cell, several)
    if outcome.report is None:
        bars.say(f"{name}: {outcome.problem}")
        return
    metric = outcome.report["metrics"].get("accuracy")
    accuracy = None if metric is None else metric["value"]
    shown = f", accuracy {accuracy:.3f}" if accuracy is not None else ""
    bars.say(f"{name}: {outcome.report['bits']['average']:.2f} bits{shown}")


def show(comparison: Comparison) -> None:
    """The table on the terminal, what it means, and where it is."""
    from rich.console import Console

    from fairquant.report.tables import answers, notes

    console = Console(highlight=False)
    _show_table(comparison, console)
    _show_notes([*answers(comparison), *notes(comparison)], comparison.folder, console)


def show_grid(grid: Grid) -> None:
    """Every table on the terminal under its name, then what is said of all of them."""
    from rich.console import Console

    from fairquant.report.grid import said_once, subject

    console = Console(highlight=False)
    for comparison in grid.comparisons:
        console.print(subject(comparison), style="bold", markup=False)
        _show_table(comparison, console)
    _show_notes(said_once(grid), grid.folder, console)


def _show_notes(texts: Sequence[str], folder: Path, console: Console) -> None:
    for text in texts:
        console.print(text, markup=False)
    for name in ("compare.html", "compare.json", "compare.md", "compare.tex"):
        console.print(f"{name.split('.')[1]:5}", folder / name, soft_wrap=True)


def _show_table(comparison: Comparison, console: Console) -> None:
    """In several blocks where the terminal is too narrow for one."""
    from rich.table import Table
    from rich.text import Text

    from fairquant.report.tables import PERMUTATION, entries, header, permutation_entries

    names = header(comparison)
    rows = [
        [
            Text(row.name),
            *(Text(e.text + ("*" if e.significant else ""), style="bold" if e.best else "") for e in cells),
        ]
        for row, cells in ((row, entries(comparison, row)) for row in comparison.rows)
    ]
    rows.append([Text(PERMUTATION, style="dim"), *(Text(e.text, style="dim") for e in permutation_entries(comparison))])
    for columns in _blocks(
        [max(len(names[c]), *(len(row[c]) for row in rows)) for c in range(len(names))], console.width
    ):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(names[column], justify="left" if column == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(row[column] for column in columns))
        console.print(table)
        console.print()


def _blocks(widths: list[int], room: int) -> list[list[int]]:
    """Columns by block, each block starting with the first column and no wider than the terminal where possible."""
    blocks, current, used = [], [0], widths[0]
    for column in range(1, len(widths)):
        if len(current) > 1 and used + 2 + widths[column] > room:
            blocks.append(current)
            current, used = [0], widths[0]
        current.append(column)
        used += 2 + widths[column]
    return [*blocks, current]
