"""Everything that runs, comparisons and studies leave in their folders, each file whole or not at all."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from fairquant.audit.flips import flips_of
from fairquant.files import write_atomically
from fairquant.recipe.events import Report
from fairquant.recipe.schema import Recipe
from fairquant.recipe.search import Search
from fairquant.report.card import model_card, shipped_notes
from fairquant.report.comparison import Comparison, Grid
from fairquant.report.grid import grid_latex, grid_markdown, grid_page
from fairquant.report.pages import comparison_page, study_page
from fairquant.report.run import DEMO, cells_csv, flips_csv, make_report, plain, plan_csv
from fairquant.report.run_page import run_page
from fairquant.report.study import Summary
from fairquant.report.tables import latex, markdown
from fairquant.report.words import verdict
from fairquant.runs.folder import Run
from fairquant.runs.predictions import predictions_npz
from fairquant.runs.results import Results, ValidationResults

#: What a run leaves that stopped before the test images were read: its bits and bytes, in the form of report.json.
VALIDATION_ONLY = "validation_only.json"


def recipe_yaml(recipe: Recipe) -> str:
    """The resolved recipe as a file that can be run again."""
    header = "# Resolved by fairquant: every default filled in. Running this file gives the same result.\n"
    return header + yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def write_results(recipe: Recipe, run: Run, results: Results) -> Report:
    """Write all files; report.json comes last, so that a folder with a report is a finished run."""
    report = make_report(recipe, run, results)
    plan = None if results.quantized is None else results.quantized.plan
    write_atomically(run.folder / "predictions.npz", predictions_npz(results.test))
    write_atomically(run.folder / "validation.npz", predictions_npz(results.validation))
    write_atomically(run.folder / "bit_plan.csv", plan_csv(plan))
    write_atomically(run.folder / "cells.csv", cells_csv(results.audit.cells))
    write_atomically(run.folder / "flips.csv", flips_csv(flips_of(results.test.before, results.test.after)))
    notes = shipped_notes(recipe, results.splits, run.messages)
    _write_or_say(run, "report.html", lambda: run_page(recipe, report, results, run.messages))
    _write_or_say(run, "README.md", lambda: model_card(recipe, report, verdict(report, results.full_bytes), notes))
    write_atomically(run.folder / "report.json", _json(report))
    return report


def _write_or_say(run: Run, name: str, make: Callable[[], str]) -> None:
    """A page of the run. One that cannot be made does not cost the result: what went wrong is said, and logged."""
    try:
        text = make()
    except Exception as error:
        run.log("".join(traceback.format_exception(error)))
        run.say(f"warning: {name} could not be made ({type(error).__name__}: {error}); every number is in report.json")
        (run.folder / name).unlink(missing_ok=True)
        return
    write_atomically(run.folder / name, encoded(text))


def write_validation_only(run: Run, results: ValidationResults) -> dict[str, object]:
    """validation.npz, bit_plan.csv and validation_only.json; returns the latter's content."""
    write_atomically(run.folder / "validation.npz", predictions_npz(results.validation))
    summary: dict[str, object] = {
        "bits": {"average": results.average_bits}, "artifact": {"bytes": results.artifact_bytes},
        "timings": dict(run.timings),
    }  # fmt: skip
    write_atomically(run.folder / "bit_plan.csv", plan_csv(results.plan))
    write_atomically(run.folder / VALIDATION_ONLY, json.dumps(summary).encode())
    return summary


def write_comparison(comparison: Comparison) -> None:
    """compare.md, compare.tex, compare.html and, last, compare.json."""
    folder = comparison.folder
    write_atomically(folder / "compare.md", encoded(markdown(comparison)))
    write_atomically(folder / "compare.tex", encoded(latex(comparison)))
    write_atomically(folder / "compare.html", encoded(comparison_page(comparison)))
    content = {
        "recipe": comparison.recipe.name + (DEMO if comparison.recipe.demo else ""),
        "references": list(comparison.references),
        "lower_is_better": sorted(comparison.lower),
        "permutation_baselines": comparison.permutation_baselines,
        "rows": [asdict(row) for row in comparison.rows],
        "runs": [
            {"method": o.cell.method, "budget": o.cell.budget, "seed": o.cell.seed,
             "folder": str(o.folder) if o.folder else None, "problem": o.problem}
            for o in comparison.outcomes
        ],
    }  # fmt: skip
    write_atomically(folder / "compare.json", _json(plain(content)))


def write_grid(grid: Grid) -> None:
    """The same files for several comparisons together; each has its own besides."""
    write_atomically(grid.folder / "compare.md", encoded(grid_markdown(grid)))
    write_atomically(grid.folder / "compare.tex", encoded(grid_latex(grid)))
    write_atomically(grid.folder / "compare.html", encoded(grid_page(grid)))
    content = [
        {"recipe": each.recipe.name, "model": each.recipe.model.name, "folder": str(each.folder)} for each in grid.comparisons
    ]  # fmt: skip
    write_atomically(grid.folder / "compare.json", _json({"comparisons": content}))


def write_study(folder: Path, plan: Mapping[str, object], summary: Summary, recipe: Recipe, section: Search) -> None:
    """study.html and, last, study.json. plan: what every worker of the study has to know."""
    write_atomically(folder / "study.html", encoded(study_page(summary, recipe, section)))
    content = {**plan, "results": plain(asdict(summary))}
    write_atomically(folder / "study.json", _json(content))


def encoded(text: str) -> bytes:
    """UTF-8; names of files that the system's own encoding does not have come out as the bytes that they are."""
    return text.encode("utf-8", "surrogateescape")


def write_json(path: Path, content: object) -> None:
    """Data classes, mappings and numbers as indented JSON; undefined numbers are null."""
    write_atomically(path, _json(plain(content)))


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
