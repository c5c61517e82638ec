"""fairquant diff: two runs or artifacts side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairquant.cli.options import AllImages, OtherData, Overrides
from fairquant.errors import UserError
from fairquant.files import check_target, write_atomically

if TYPE_CHECKING:
    from fairquant.report.diff import Diff

#: Columns are aligned up to this many characters; a longer cell, such as a list of a recipe, moves those after it.
WIDEST = 60


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, a model.safetensors or an exported .onnx.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another; differences are B - A.")],
    overrides: Overrides = None,
    dataset: OtherData = None,
    every: AllImages = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diff as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the diff as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write it as one page that needs no network.")] = None,
) -> None:
    """Show two runs or artifacts side by side, paired where they were tested on the same images."""
    check_target("--out", out, ".json")
    check_target("--html", html, ".html")
    from fairquant.cli.display import Bars

    with Bars() as bars:
        bars.say("loading ...")
        from fairquant.report.pages import diff_page
        from fairquant.report.run import plain
        from fairquant.report.write import write_json
        from fairquant.study import diff as compared

        result = compared(a, b, *(overrides or []), dataset=dataset, every=every, display=bars)
    print(json.dumps(plain(result), indent=1) if as_json else text(result))
    try:
        if out is not None:
            write_json(out, result)
        if html is not None:
            write_atomically(html, diff_page(result).encode())
    except OSError as error:
        raise UserError(f"{error.filename or out or html}: cannot be written: {error.strerror or error}") from error


def text(result: Diff) -> str:
    """What was compared, then the tables."""
    from fairquant.report.diff_tables import sections, summary

    lines = ["DEMO: synthetic images and a few epochs. The numbers mean nothing."] if result.demo else []
    lines += summary(result)
    for section in sections(result):
        lines += ["", section.title, *_aligned([section.head, *section.rows] if section.rows else []), *section.notes]
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
