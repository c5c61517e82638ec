"""From the reports and predictions of a comparison's runs to its rows: spread over seeds, paired differences, what was lost."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fairquant.audit.evaluate import permutation_baselines
from fairquant.recipe import Recipe
from fairquant.recipe.events import Report
from fairquant.report.answer import frequency, worst_first
from fairquant.report.comparison import Comparison, Outcome, Row, Spread
from fairquant.roles import Predictions
from fairquant.roles.metric import lower_is_better
from fairquant.runs.predictions import read_predictions
from fairquant.study.statistics import paired_differences, spread


def summarise(
    recipe: Recipe, outcomes: Sequence[Outcome], names: Sequence[str], references: tuple[str, ...], folder: Path,
    columns: tuple[str, ...],
) -> Comparison:  # fmt: skip
    """From reports and predictions to the table."""
    labels = [component.label for component in recipe.metrics]
    by_row = {name: [outcome for outcome in outcomes if outcome.cell.row == name] for name in names}
    stored = {name: _predictions(own) for name, own in by_row.items()}
    rows = [_row(name, own, labels) for name, own in by_row.items()]
    possible = [row for row in rows if row.name in references and row.seeds]
    rows = [_against(row, _reference_of(row, possible), stored, recipe) for row in rows]
    baselines = [
        permutation_baselines(predictions, recipe.metrics, seed=recipe.seed)
        for name in references for predictions in stored[name].values()
    ]  # fmt: skip
    first = baselines[0] if baselines else {}
    return Comparison(
        recipe=recipe, references=references, rows=tuple(rows),
        columns=columns,
        lower=frozenset(component.label for component in recipe.metrics if lower_is_better(component.value)),
        permutation_baselines={label: sum(each[label] for each in baselines) / len(baselines) for label in first},
        outcomes=tuple(outcomes), folder=folder,
    )  # fmt: skip


def _row(name: str, outcomes: Sequence[Outcome], labels: Sequence[str]) -> Row:
    """One method at one budget over its seeds, not yet compared with another."""
    finished = [outcome for outcome in outcomes if outcome.report is not None]
    reports = [outcome.report for outcome in finished if outcome.report is not None]
    metrics = {label: spread([report["metrics"][label]["value"] for report in reports]) for label in labels}
    cell = outcomes[0].cell
    return Row(
        name=name, method=cell.method, budget=cell.budget, seeds=tuple(outcome.cell.seed for outcome in finished),
        bits=spread([report["bits"]["average"] for report in reports]),
        megabytes=spread([report["artifact"]["bytes"] / 1e6 for report in reports]),
        metrics=metrics if reports else {}, worst=_worst(reports), change=_changes(reports), layers=_layers(finished),
        reference=None, against={}, answers=tuple(report["accept"]["answer"] for report in reports),
        problems=tuple(f"seed {o.cell.seed}: {o.problem}" for o in outcomes if o.problem is not None),
        lost=tuple(
            f"seed {o.cell.seed}: {frequency(worst_first(o.report['cells']['lost'])[0])}"
            for o in finished
            if o.report is not None and o.report["cells"]["lost"]
        ),
    )  # fmt: skip


def _against(row: Row, reference: Row | None, stored: Mapping[str, Mapping[int, Predictions]], recipe: Recipe) -> Row:
    """The row with its paired differences, over the seeds that both have."""
    if reference is None or not row.seeds:
        return row
    mine, theirs = stored[row.name], stored[reference.name]
    pairs = [(theirs[seed], mine[seed]) for seed in mine if seed in theirs]
    if not pairs:
        return row
    differences = paired_differences(pairs, recipe.metrics, seed=recipe.seed)
    return replace(row, reference=reference.name, against=differences)


def _predictions(outcomes: Sequence[Outcome]) -> dict[int, Predictions]:
    return {
        outcome.cell.seed: read_predictions(outcome.folder / "predictions.npz").after
        for outcome in outcomes
        if outcome.folder is not None
    }


def _worst(reports: Sequence[Report]) -> tuple[float, float]:
    """Ends of the interval of worst-group accuracy, mean over the reports that have one."""
    ends = []
    for report in reports:
        metric = report["metrics"].get("worst-group-accuracy")
        if metric is not None and metric["low"] is not None and metric["high"] is not None:
            ends.append((metric["low"], metric["high"]))
    if not ends:
        return float("nan"), float("nan")
    return sum(low for low, _ in ends) / len(ends), sum(high for _, high in ends) / len(ends)


def _layers(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Average bits of each layer, out of the first seed's bit_plan.csv; {} in full precision."""
    folder = next((outcome.folder for outcome in outcomes if outcome.folder is not None), None)
    if folder is None:
        return {}
    with open(folder / "bit_plan.csv", newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    weights, bits = (
        dict.fromkeys((line["layer"] for line in lines), 0),
        dict.fromkeys((line["layer"] for line in lines), 0),
    )
    for line in lines:
        weights[line["layer"]] += int(line["weights"])
        bits[line["layer"]] += int(line["weights"]) * int(line["bits"])
    return {layer: bits[layer] / weights[layer] for layer in weights}


def _changes(reports: Sequence[Report]) -> dict[str, Spread]:
    """Accuracy against full precision by group, over seeds."""
    if not reports:
        return {}
    groups = reports[0]["change"]["accuracy"]["by_group"]
    return {
        group: spread([report["change"]["accuracy"]["by_group"][group]["value"] for report in reports])
        for group in groups
    }


def _reference_of(row: Row, references: Sequence[Row]) -> Row | None:
    """The reference of the row's own budget; where there is none, the one nearest in bits."""
    if row in references or not references:
        return None
    same = [each for each in references if each.budget is not None and each.budget == row.budget]
    return same[0] if same else min(references, key=lambda each: abs(each.bits.mean - row.bits.mean))
