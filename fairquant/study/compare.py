"""fairquant compare: every method on one budget, the same seeds, epochs and baselines, and what may be said of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fairquant.audit.evaluate import null_floors
from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.pipeline import default_runs
from fairquant.recipe import Recipe, read_recipe
from fairquant.recipe.presets import library
from fairquant.registry import Plugins, discover
from fairquant.report import plain
from fairquant.results import read_predictions
from fairquant.roles import Predictions
from fairquant.runs import Display, Quiet
from fairquant.study.grid import Cell, Outcome, make_cells, run_cells
from fairquant.study.statistics import Difference, Spread, lower_is_better, paired_differences, spread

#: The table's columns, where the recipe measures them.
COLUMNS = (
    "accuracy", "balanced-accuracy", "worst-group-accuracy", "accuracy-gap", "eopp1", "eodd", "demographic-parity",
    "predictive-parity", "worst-group-auc", "ece",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One method at one budget. metrics: label -> spread over seeds; worst: ends of the interval of worst-group
    accuracy, mean over seeds; change: group -> accuracy against full precision; layers: average bits of each layer, first
    seed; reference: the row that differences are taken from, None for a reference itself; against: label -> difference."""

    name: str
    method: str
    budget: float | None
    seeds: tuple[int, ...]
    bits: Spread
    megabytes: Spread
    metrics: dict[str, Spread]
    worst: tuple[float, float]
    change: dict[str, Spread]
    layers: dict[str, float]
    reference: str | None
    against: dict[str, Difference]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: rows in the order asked for, the files written, every run's outcome. references: the rows
    that differences are taken from, one for each budget where the method named has several; floors: label of each gap ->
    its value with groups permuted in the references' predictions, mean over them and over seeds."""

    recipe: Recipe
    references: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    lower: frozenset[str]
    floors: dict[str, float]
    outcomes: tuple[Outcome, ...]
    folder: Path

    def best(self, column: str) -> float:
        """The best mean of a column among quantized methods that have one."""
        means = [row.metrics[column].mean for row in self.rows if row.metrics and row.method != "fp32"]
        means = [mean for mean in means if mean == mean]
        if not means:
            return float("nan")
        return min(means) if column in self.lower else max(means)


@dataclass(frozen=True)
class ComparisonInfo:
    """What listeners are told of a comparison."""

    recipe: Recipe
    folder: Path
    name: str


def compare(
    recipe: str | os.PathLike[str], *overrides: str, methods: Sequence[str], seeds: Sequence[int],
    budgets: Sequence[float] = (), against: str | None = None, jobs: int = 1, demo: bool = False,
    runs: str | os.PathLike[str] | None = None, plugins: Plugins | None = None,
    displays: Callable[[Cell], Display] = lambda cell: Quiet(), on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> Comparison:  # fmt: skip
    """Run methods x budgets x seeds of a recipe and compare them. Finished runs are not run again.

    against: the method that differences are taken from (default: fq-baq where it takes part, else the first method); at
    several budgets each row is held against that method at its own budget, or all against one row ("fq-baq @ 3").
    Raises UserError where the recipe is not in order; a run that fails is a row's problem.
    """
    if not methods or not seeds:
        raise UserError("a comparison needs at least one method and one seed")
    plugins = discover() if plugins is None else plugins
    base = read_recipe(recipe, overrides, registry=plugins.registry, demo=demo)
    if missing := base.dataset.value.check():
        raise UserError(missing)
    cells = make_cells(methods, budgets, seeds, library(plugins.registry))
    names = list(dict.fromkeys(cell.row for cell in cells))
    references = _references(against, names)
    place = Path(runs) if runs is not None else default_runs()
    folder = comparison_folder(base, cells, overrides, place)
    info = ComparisonInfo(base, folder, folder.name)
    folder.mkdir(parents=True, exist_ok=True)
    warn = displays(cells[0]).say
    for warning in plugins.notify("fairquant_comparison_started", comparison=info):
        warn(f"warning: {warning}")
    outcomes = run_cells(cells, str(recipe), overrides, demo, place, jobs, displays, on_done)
    found = summarise(base, outcomes, names, references, folder)
    write_comparison(found)
    finished = [outcome.folder for outcome in outcomes if outcome.folder is not None]
    for warning in plugins.notify("fairquant_comparison_finished", comparison=info, folders=finished):
        warn(f"warning: {warning}")
    return found


def _references(against: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """The rows meant: one row, or a method's rows at every budget."""
    methods = [name.split(" @ ")[0] for name in names]
    wanted = against or ("fq-baq" if "fq-baq" in methods else methods[0])
    found = tuple(name for name, method in zip(names, methods, strict=True) if wanted in (name, method))
    if not found:
        raise UserError(f"--against {against}: takes no part in this comparison. Methods: {', '.join(names)}")
    return found


def _reference_of(row: Row, references: Sequence[Row]) -> Row | None:
    """A row is held against the reference of its own budget; where there is none, against the one nearest to its bits."""
    if row in references or not references:
        return None
    same = [found for found in references if found.budget is not None and found.budget == row.budget]
    return same[0] if same else min(references, key=lambda found: abs(found.bits.mean - row.bits.mean))


def comparison_folder(recipe: Recipe, cells: Sequence[Cell], overrides: Sequence[str], runs: Path) -> Path:
    """runs/<recipe>/compare-<hash>: the same question has the same folder."""
    content = json.dumps([recipe.digest(), [asdict(cell) for cell in cells], list(overrides)], sort_keys=True)
    demo = "-demo" if recipe.demo else ""
    return runs / f"{recipe.name}{demo}" / f"compare-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def summarise(
    recipe: Recipe, outcomes: Sequence[Outcome], names: Sequence[str], references: tuple[str, ...], folder: Path
) -> Comparison:
    """From reports and predictions to the table."""
    labels = [component.label for component in recipe.metrics]
    columns = tuple(name for name in COLUMNS if name in labels) or tuple(labels[:8])
    by_row = {name: [outcome for outcome in outcomes if outcome.cell.row == name] for name in names}
    stored = {name: _predictions(found) for name, found in by_row.items()}
    rows = []
    for name, found in by_row.items():
        good = [outcome for outcome in found if outcome.report is not None]
        reports = [outcome.report for outcome in good if outcome.report is not None]
        problems = [f"seed {o.cell.seed}: {o.problem}" for o in found if o.problem is not None]
        rows.append(
            Row(
                name, found[0].cell.method, found[0].cell.budget, tuple(o.cell.seed for o in good),
                spread([report["bits"]["average"] for report in reports]),
                spread([report["artifact"]["bytes"] / 1e6 for report in reports]),
                {label: spread([report["metrics"][label]["value"] for report in reports]) for label in labels}
                if reports else {},
                _worst(reports), _changes(reports), _layers(good), None, {}, tuple(problems),
            )
        )  # fmt: skip
    possible = [row for row in rows if row.name in references and row.seeds]
    rows = [_against(row, _reference_of(row, possible), stored, recipe) for row in rows]
    lower = frozenset(component.label for component in recipe.metrics if lower_is_better(component.value))
    floors = [null_floors(p, recipe.metrics, seed=recipe.seed) for name in references for p in stored[name].values()]
    mean = {label: sum(floor[label] for floor in floors) / len(floors) for label in (floors[0] if floors else {})}
    return Comparison(recipe, references, tuple(rows), columns, lower, mean, tuple(outcomes), folder)


def _against(row: Row, reference: Row | None, stored: Mapping[str, Mapping[int, Predictions]], recipe: Recipe) -> Row:
    """The row with its paired differences, over the seeds that both have."""
    if reference is None or not row.seeds:
        return row
    mine, theirs = stored[row.name], stored[reference.name]
    pairs = [(theirs[seed], mine[seed]) for seed in mine if seed in theirs]
    if not pairs:
        return row
    found = paired_differences(pairs, recipe.metrics, seed=recipe.seed)
    return replace(row, reference=reference.name, against=found)


def _predictions(outcomes: Sequence[Outcome]) -> dict[int, Predictions]:
    return {
        outcome.cell.seed: read_predictions(outcome.folder / "predictions.npz")[1]
        for outcome in outcomes
        if outcome.folder is not None
    }


def _worst(reports: Sequence[dict[str, Any]]) -> tuple[float, float]:
    found = [report["metrics"].get("worst-group-accuracy") for report in reports]
    ends = [(metric["low"], metric["high"]) for metric in found if metric and metric["low"] is not None]
    if not ends:
        return float("nan"), float("nan")
    return sum(low for low, _ in ends) / len(ends), sum(high for _, high in ends) / len(ends)


def _layers(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Average bits of each layer, out of the first seed's bit_plan.csv; {} in full precision."""
    folder = next((outcome.folder for outcome in outcomes if outcome.folder is not None), None)
    if folder is None:
        return {}
    with open(folder / "bit_plan.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    weights, bits = (
        dict.fromkeys((line["layer"] for line in lines), 0),
        dict.fromkeys((line["layer"] for line in lines), 0),
    )
    for line in lines:
        weights[line["layer"]] += int(line["weights"])
        bits[line["layer"]] += int(line["weights"]) * int(line["bits"])
    return {layer: bits[layer] / weights[layer] for layer in weights}


def _changes(reports: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    """Accuracy against full precision by group, over seeds."""
    if not reports:
        return {}
    groups = reports[0]["change"]["accuracy"]["by_group"]
    return {
        group: spread([report["change"]["accuracy"]["by_group"][group]["value"] for report in reports])
        for group in groups
    }


def write_comparison(found: Comparison) -> None:
    """compare.json, compare.md, compare.tex and compare.html, all whole or not at all; the json comes last."""
    from fairquant.study.page import comparison_page
    from fairquant.study.tables import latex, markdown

    write_atomically(found.folder / "compare.md", markdown(found).encode())
    write_atomically(found.folder / "compare.tex", latex(found).encode())
    write_atomically(found.folder / "compare.html", comparison_page(found).encode())
    content = plain({
        "recipe": found.recipe.name + (" (DEMO: synthetic data, a few epochs)" if found.recipe.demo else ""),
        "references": list(found.references),
        "lower_is_better": sorted(found.lower),
        "null_floors": found.floors,
        "rows": [asdict(row) for row in found.rows],
        "runs": [
            {"method": o.cell.method, "budget": o.cell.budget, "seed": o.cell.seed,
             "folder": str(o.folder) if o.folder else None, "problem": o.problem}
            for o in found.outcomes
        ],
    })  # fmt: skip
    write_atomically(found.folder / "compare.json", (json.dumps(content, indent=1) + "\n").encode())
