"""fairquant data: check what a recipe reads; fetch a public dataset into its official layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import Demo, Overrides, RecipeArgument
from fairquant.files import check_target, write_atomically

if TYPE_CHECKING:
    from fairquant.roles import Downloadable

app = typer.Typer(help="Check the data of a recipe; fetch public datasets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check the data of a recipe; fetch public datasets."""


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    html: Annotated[Path | None, typer.Option(help="Write it as one page that needs no network.")] = None,
    demo: Demo = False,
) -> None:
    """Read the data of a recipe and show what came in: dropped rows by reason, every class in every group, what to look at."""
    check_target("--html", html, ".html")
    from fairquant.cli.display import Bars
    from fairquant.data.describe import aligned, cells_text, leaks
    from fairquant.errors import UserError
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover
    from fairquant.report.data import data_page, reading_rows
    from fairquant.runs.data import load_data, missing_data

    registry = discover().registry
    resolved = read_recipe(recipe, overrides or [], registry=registry, demo=demo, searching=True)
    if missing := missing_data(resolved, registry):
        raise UserError(missing, str(recipe))
    with Bars() as bars:
        splits = load_data(resolved, bars, registry)
    notes = [*splits.notes, *leaks(resolved, splits)]
    print("\n".join([*aligned(reading_rows(splits)), "", cells_text(splits), *(["", "Notes:"] if notes else [])]))
    for note in notes:
        print(f"  - {note}")
    if html is not None:
        write_atomically(html, data_page(resolved, splits, notes).encode())
        print(f"page  {html}")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="isic2019, fitzpatrick17k or medmnist.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="Options of the dataset, such as subset=dermamnist.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Target folder; by default the one that the recipes use.")] = None,
    mirror: Annotated[
        str | None, typer.Option("--from", help="A base URL or a folder with the files, instead of their own sites.")
    ] = None,
) -> None:
    """Fetch what is missing of a dataset; run it again to resume. Files that cannot be fetched are listed."""
    from fairquant.errors import UserError
    from fairquant.recipe.merge import read_overrides
    from fairquant.registry import discover
    from fairquant.registry.registry import DATASET
    from fairquant.roles import Downloadable

    registry = discover().registry
    problems: list[tuple[str, str]] = []
    given, wrong = read_overrides(options or [])
    made = registry.build(DATASET, name, given if root is None else {**given, "root": str(root)}, name, problems)
    wrong += [f"{key}: {text}" for key, text in problems]
    if wrong or not isinstance(made, Downloadable):
        raise UserError(wrong or f"dataset {name!r} has nothing to fetch")
    new, present, failed = _fetch_all(made, name, mirror)
    print(f"{name}: {new} file(s) fetched, {present} present before, {len(failed)} failed")
    if failed:
        lines = [f"{target}: {reason}" for target, reason in list(failed.items())[:8]]
        more = [f"... and {len(failed) - 8} more"] if len(failed) > 8 else []
        hint = (
            "Without a network: download the files on another machine and name their folder with --from FOLDER. "
            "Images that their sites have removed stay missing; a run counts and names them"
        )
        raise UserError([*lines, *more, hint], str(made.root))


def _fetch_all(dataset: Downloadable, name: str, mirror: str | None) -> tuple[int, int, dict[str, str]]:
    """Every missing file: how many were fetched, how many were present before, and failed: target -> reason."""
    from fairquant.cli.display import Bars
    from fairquant.data.download import fetch

    new, present = 0, 0
    failed: dict[str, str] = {}
    with Bars() as bars:
        while sources := [source for source in dataset.sources() if source.target not in failed]:
            advance = bars.bar(f"fetching {name}", len(sources))
            fetched = fetch(sources, Path(dataset.root), mirror, advance)
            present = fetched.present - new
            new, failed = new + fetched.new, failed | fetched.failed
            if not fetched.new:  # a table that arrived may name further files; without one there is nothing more
                break
    return new, present, failed
