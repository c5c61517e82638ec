"""The reports of finished runs: read and checked, and every run below a folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairquant.errors import UserError
from fairquant.recipe.events import Report

#: Keys of report.json that tell ours from another program's, and what each holds.
KEYS: dict[str, type | tuple[type, ...]] = {
    "method": str, "seed": int, "recipe": str, "dataset": dict, "bits": dict, "artifact": dict, "metrics": dict,
}  # fmt: skip
#: Numbers that every report has, by their path.
NUMBERS = (("bits", "average"), ("artifact", "bytes"))
#: Folders inside a run's own that hold no runs.
SKIPPED = ("checkpoints",)


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, its report, and when it finished [seconds since 1970]."""

    folder: Path
    report: Report
    finished: float

    def metric(self, label: str) -> float | None:
        """The value of a metric; None where the report has none, or it is undefined."""
        found = self.report["metrics"].get(label)
        return found["value"] if found else None


@dataclass(frozen=True)
class FoundRuns:
    """What lies below a folder: finished runs by folder, damaged reports as problems, folders with a recipe only."""

    finished: tuple[FinishedRun, ...]
    damaged: tuple[str, ...]
    unfinished: tuple[Path, ...]


def answer_of(report: Report) -> str | None:
    """The answer of the section `accept`; None in reports that have none."""
    accept = report.get("accept")
    return accept.get("answer") if accept else None


def read_report(file: Path) -> Report:
    """A run's report.json. Raises UserError where it cannot be read, is damaged, or is another program's."""
    content = _content(file)
    if problem := _problem(content):
        raise UserError(f"{file}: {problem}")
    report: Report = content
    return report


def find_runs(folder: Path) -> FoundRuns:
    """Every run below a folder, by folder. Raises UserError where the folder is missing."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name the one that runs were written to (--runs, FAIRQUANT_RUNS)")
    finished: list[FinishedRun] = []
    damaged: list[str] = []
    unfinished: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=lambda error: damaged.append(f"{error.filename}: {error}")):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        here = Path(place)
        if "report.json" in files:
            _sort_in(here / "report.json", finished, damaged)
        elif "recipe.yaml" in files:
            unfinished.append(here)
    return FoundRuns(tuple(finished), tuple(damaged), tuple(unfinished))


def _sort_in(file: Path, finished: list[FinishedRun], damaged: list[str]) -> None:
    """A report to the finished or the damaged; another program's to neither."""
    try:
        content = _content(file)
        if _is_foreign(content):
            return
        if problem := _problem(content):
            raise UserError(f"{file}: {problem}")
        finished.append(FinishedRun(file.parent, content, file.stat().st_mtime))
    except (UserError, OSError) as error:
        damaged.append(str(error))


def _content(file: Path) -> Any:  # JSON: of any type until it is checked
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda name: None)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: damaged or cut off, not JSON. Remove it: the command that made the run then writes it anew"
        ) from error


def _is_foreign(content: Any) -> bool:
    return not isinstance(content, dict) or sum(key in content for key in KEYS) * 2 < len(KEYS)


def _problem(content: Any) -> str:
    """What is wrong with the content of a report.json; empty where nothing is."""
    if _is_foreign(content):
        return "not a report of fairquant"
    wrong = [key for key, kind in KEYS.items() if not isinstance(content.get(key), kind)]
    wrong += [
        f"{section}.{key}"
        for section, key in NUMBERS
        if section not in wrong and not isinstance(content[section].get(key), int | float)
    ]
    if "metrics" not in wrong:
        wrong += [f"metrics.{label}" for label, metric in content["metrics"].items() if not _is_metric(metric)]
    accept = content.get("accept") or {}
    if not (isinstance(accept, dict) and isinstance(accept.get("answer"), str | None)):
        wrong.append("accept")
    return f"damaged: {', '.join(wrong)} missing or not of the right kind" if wrong else ""


def _is_metric(metric: Any) -> bool:
    if not isinstance(metric, dict):
        return False
    return all(isinstance(metric.get(key), int | float | None) for key in ("value", "low", "high"))
