"""fairquant data prepare: fetch a public dataset into its official layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fairquant.roles import Downloadable

app = typer.Typer(help="Fetch public datasets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Fetch public datasets."""


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="isic2019 or fitzpatrick17k.")],
    root: Annotated[Path | None, typer.Option(help="Target folder; by default the one that the recipes use.")] = None,
    mirror: Annotated[
        str | None, typer.Option("--from", help="A base URL or a folder with the files, instead of their own sites.")
    ] = None,
) -> None:
    """Fetch what is missing of a dataset; run it again to resume. Files that cannot be fetched are listed."""
    from fairquant.errors import UserError
    from fairquant.registry import discover
    from fairquant.registry.registry import DATASET
    from fairquant.roles import Downloadable

    registry = discover().registry
    problems: list[tuple[str, str]] = []
    made = registry.build(DATASET, name, {} if root is None else {"root": str(root)}, "dataset", problems)
    if not isinstance(made, Downloadable):
        raise UserError([text for _, text in problems] or f"dataset {name!r} has nothing to fetch")
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
