"""fairquant runs: the finished runs of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fairquant.runs.reports import FinishedRun, FoundRuns

HEAD = ("folder", "recipe", "method", "seed", "bits", "MB", "accuracy", "worst group", "answer", "finished")
#: Columns of text; numbers are aligned to the right.
LEFT = ("folder", "recipe", "method", "answer", "finished")


def runs(
    folder: Annotated[
        Path | None, typer.Argument(help="Where runs lie, at any depth. Default: FAIRQUANT_RUNS, or runs.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            help="name, bits or size (lowest first), finished (latest first), or a metric of the reports (highest first)."
        ),
    ] = "name",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also list folders with a recipe.yaml and no report.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every metric.")] = False,
) -> None:
    """List the finished runs of a folder: bits, size, accuracy, worst-group accuracy and answer."""
    from fairquant.runs.folder import default_runs
    from fairquant.runs.reports import FoundRuns, find_runs

    place = folder or default_runs()
    missing = folder is None and not place.exists()
    found = FoundRuns((), (), ()) if missing else find_runs(place)
    chosen = ordered(found.finished, sort, reverse)
    if as_json:
        print(json.dumps(_content(chosen, found), indent=1))
        return
    if chosen:
        print("\n".join(table(chosen, place)))
    else:
        print(
            f"{place}: no finished run. `fairquant run quickstart --demo` makes one; `fairquant runs FOLDER` and "
            "FAIRQUANT_RUNS look elsewhere"
        )
    if unfinished:
        for each in found.unfinished:
            print(f"not finished: {each} (the command that started it resumes it)")
    if found.damaged:
        print(f"left out, damaged: {len(found.damaged)}")
        print("\n".join(f"  {problem}" for problem in found.damaged))


def ordered(found: Sequence[FinishedRun], sort: str, reverse: bool) -> list[FinishedRun]:
    """The runs in the order asked for, those without the value last. Raises UserError for a name that no report has."""
    from fairquant.errors import UserError, suggestion

    labels = list(dict.fromkeys(label for run in found for label in run.report["metrics"]))
    runs = sorted(found, key=lambda run: str(run.folder), reverse=reverse and sort == "name")
    if sort == "name":
        return runs
    if sort not in ("bits", "size", "finished", *labels, "accuracy", "worst-group-accuracy"):
        known = ("name", "bits", "size", "finished", *labels)
        raise UserError(f"--sort {sort}: no run has it.{suggestion(sort, known)} Known: {', '.join(known)}")
    values = [_value(run, sort) for run in runs]
    down = (sort not in ("bits", "size")) != reverse
    known_values = [(value, run) for value, run in zip(values, runs, strict=True) if value is not None]
    known_values.sort(key=lambda pair: -pair[0] if down else pair[0])
    return [run for _, run in known_values] + [run for value, run in zip(values, runs, strict=True) if value is None]


def _value(run: FinishedRun, sort: str) -> float | None:
    if sort == "bits":
        return run.report["bits"]["average"]
    if sort == "size":
        return run.report["artifact"]["bytes"]
    return run.finished if sort == "finished" else run.metric(sort)


def table(found: Sequence[FinishedRun], place: Path) -> list[str]:
    """One line for each run, below the heads of the columns."""
    rows = [HEAD, *(_cells(run, place) for run in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for cell, width, name in zip(row, widths, HEAD, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cells(run: FinishedRun, place: Path) -> tuple[str, ...]:
    from fairquant.runs.reports import answer_of

    report = run.report
    name, _, demo = report["recipe"].partition(" (DEMO")
    values = (run.metric("accuracy"), run.metric("worst-group-accuracy"))
    return (
        run.folder.name if run.folder == place else str(run.folder.relative_to(place)), name + (" (demo)" if demo else ""),
        report["method"], str(report["seed"]), f"{report['bits']['average']:.2f}", f"{report['artifact']['bytes'] / 1e6:.2f}",
        *("-" if value is None else f"{value:.3f}" for value in values), answer_of(report) or "-",
        f"{datetime.fromtimestamp(run.finished):%Y-%m-%d %H:%M}",
    )  # fmt: skip


def _content(chosen: Sequence[FinishedRun], found: FoundRuns) -> dict[str, object]:
    from fairquant.runs.reports import answer_of

    rows = [
        {
            "folder": str(run.folder), "recipe": run.report["recipe"], "method": run.report["method"],
            "seed": run.report["seed"], "bits": run.report["bits"]["average"], "bytes": run.report["artifact"]["bytes"],
            "answer": answer_of(run.report), "finished": datetime.fromtimestamp(run.finished).astimezone().isoformat("T", "seconds"),
            "metrics": {label: run.metric(label) for label in run.report["metrics"]},
        }
        for run in chosen
    ]  # fmt: skip
    return {"runs": rows, "unfinished": [str(each) for each in found.unfinished], "damaged": list(found.damaged)}
