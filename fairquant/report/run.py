"""report.json and bit_plan.csv of a run: the data that people's scripts read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Literal

from fairquant.audit.cell_reports import cell_report, cells_report, finite, interval_report
from fairquant.audit.cells import Cells
from fairquant.audit.evaluate import Audit
from fairquant.audit.flips import Flip
from fairquant.audit.operating import Decisions
from fairquant.bits.fallback import Deviation
from fairquant.bits.layers import float_weights
from fairquant.data.unlabelled import OWN_ANSWERS
from fairquant.files import plain_cell
from fairquant.recipe.events import (
    BaselineReport,
    BitsReport,
    BudgetReport,
    ChangeReport,
    DatasetReport,
    DeviationReport,
    FallbackReport,
    IntervalReport,
    MetricReport,
    OperatingReport,
    OptimalityReport,
    Report,
    RoundingReport,
)
from fairquant.recipe.schema import Recipe
from fairquant.roles import BitPlan, MetricValue, Splits
from fairquant.roles.dataset import counts_of
from fairquant.runs.folder import Run, versions
from fairquant.runs.identity import digest_of
from fairquant.runs.results import Results

DEMO = " (DEMO: synthetic data, a few epochs)"


def make_report(recipe: Recipe, run: Run, results: Results) -> Report:
    """report.json: stable keys, plain data."""
    metrics, baseline, change = audit_report(results.audit)
    return {
        "method": recipe.method,
        "seed": recipe.seed,
        "recipe": recipe.name + (DEMO if recipe.demo else ""),
        "dataset": dataset_report(recipe.dataset.name, results.splits),
        "budget": budget_report(recipe, results),
        "bits": bits_report(recipe, results),
        "artifact": results.artifact,
        "metrics": metrics,
        "baseline": baseline,
        "change": change,
        "accept": results.acceptance,
        "cells": cells_report(results.audit.cells),
        "operating_point": None if results.decisions is None else operating_report(results.decisions),
        "optimality": optimality_report(results),
        "fallback": fallback_report(results),
        "rounding": rounding_report(recipe, results),
        "timings": {name: round(seconds, 3) for name, seconds in run.timings.items()},
        "versions": versions(run.plugins),
        "identity": digest_of(run.identity),
    }


def dataset_report(name: str, splits: Splits) -> DatasetReport:
    return {
        "name": name, "fingerprint": splits.fingerprint, "classes": list(splits.class_names),
        "attributes": list(splits.attributes), "counts": counts_of(splits),
        "labels": "the model's own answers" if OWN_ANSWERS in splits.notes else "given",
    }  # fmt: skip


def budget_report(recipe: Recipe, results: Results) -> BudgetReport:
    """The limits that the recipe names; none in full precision."""
    if results.quantized is None:
        return {"average_bits": None}
    report: BudgetReport = {"average_bits": recipe.budget.average_bits}
    if recipe.budget.bytes is not None:
        report["size_bytes"] = recipe.budget.bytes
    if recipe.budget.bit_operations is not None:
        report["bops"] = recipe.budget.bit_operations
    if recipe.budget.milliseconds is not None:
        report["latency_ms"] = recipe.budget.milliseconds
    if (nominal := results.quantized.allocation.nominal_bits) is not None:
        report["nominal_bits"] = nominal
    return report


def bits_report(recipe: Recipe, results: Results) -> BitsReport:
    """What was spent; of bit operations and milliseconds, only where the budget is of them."""
    quantized = results.quantized
    if quantized is None:
        weights = sum(parameter.numel() for parameter in results.network.parameters())
        return {
            "average": 32.0, "average_all": 32.0, "in_float": float_weights(results.network, ()),
            "histogram": {"32": weights}, "weight_bytes": results.weight_bytes,
        }  # fmt: skip
    left = float_weights(results.network, quantized.layers, quantized.operations.parameters)
    spent = sum(int(bits) * count for bits, count in quantized.plan.histogram().items())
    weights = sum(quantized.plan.histogram().values())
    report: BitsReport = {
        "average": quantized.plan.average,
        "average_all": (spent + 32 * sum(left.values())) / (weights + sum(left.values())),
        "in_float": left,
        "histogram": {str(bits): count for bits, count in quantized.plan.histogram().items()},
        "weight_bytes": results.weight_bytes,
        "moved": quantized.plan.moved(quantized.start),
    }
    if recipe.budget.bops is not None:
        report["bops"], report["full_bops"] = quantized.bops
    if (milliseconds := quantized.milliseconds) is not None:
        report["latency_ms"] = milliseconds
    return report


def optimality_report(results: Results) -> OptimalityReport:
    """The allocator's certificate; empty where it has none."""
    if results.quantized is None or results.quantized.allocation.lower_bound is None:
        return {}
    allocation = results.quantized.allocation
    return {"lower_bound": finite(allocation.lower_bound), "gap": finite(allocation.gap)}


def fallback_report(results: Results) -> FallbackReport | None:
    """The comparison with uniform bits; None where there was none."""
    found = None if results.quantized is None else results.quantized.comparison
    if found is None:
        return None
    taken: Literal["plan", "uniform"] = "uniform" if found.fallback else "plan"
    plan, uniform = (deviation_report(each) for each in (found.plan, found.uniform))
    return {
        "plan": plan, "uniform": uniform, "images": found.images, "unseen": found.unseen, "taken": taken, "text": str(found),
    }  # fmt: skip


def rounding_report(recipe: Recipe, results: Results) -> RoundingReport | None:
    """How the weights were rounded; None where each quantizer rounds its own."""
    found = None if results.quantized is None else results.quantized.rounded
    if found is None or recipe.quantization is None or recipe.quantization.rounding is None:
        return None
    return {
        "name": recipe.quantization.rounding.name, "images": found.images, "layers": len(found.layers),
        "compensated": found.compensated, "blocks": {"learned": found.learned, "unchanged": len(found.blocks) - found.learned},
    }  # fmt: skip


def deviation_report(deviation: Deviation) -> DeviationReport:
    return {"changed": finite(deviation.changed), "divergence": finite(deviation.divergence)}


def audit_report(audit: Audit) -> tuple[dict[str, MetricReport], BaselineReport, dict[str, ChangeReport]]:
    """The parts `metrics`, `baseline` and `change` of report.json."""
    change: dict[str, ChangeReport] = {
        name: {
            "value": finite(each.value), "low": finite(each.low), "high": finite(each.high),
            "by_group": {group: _interval(values) for group, values in each.by_group.items()},
        }
        for name, each in audit.change.items()
    }  # fmt: skip
    metrics = {label: metric_report(metric) for label, metric in audit.metrics.items()}
    return metrics, {"metrics": {label: metric_report(metric) for label, metric in audit.baseline.items()}}, change


def operating_report(decisions: Decisions) -> OperatingReport:
    return {
        "classes": list(decisions.classes), "target": decisions.target, "thresholds": list(decisions.thresholds),
        "rates": [cell_report(cell) for cell in decisions.rates],
        "areas": [
            {"kind": each.kind, "scope": each.scope, "positives": each.positives, "negatives": each.negatives,
             "before": interval_report(each.before), "after": interval_report(each.after), "change": interval_report(each.change)}
            for each in decisions.areas
        ],
    }  # fmt: skip


def metric_report(metric: MetricValue) -> MetricReport:
    return {
        "value": finite(metric.value), "low": finite(metric.low), "high": finite(metric.high),
        "by_group": {group: finite(value) for group, value in metric.by_group.items()}, "skipped": metric.skipped,
    }  # fmt: skip


def _interval(values: Mapping[str, float]) -> IntervalReport:
    return {"value": finite(values["value"]), "low": finite(values["low"]), "high": finite(values["high"])}


def cells_csv(cells: Cells) -> bytes:
    """One line per rate, class and scope: counts, rates with 95 % intervals before and after, the change with its interval, p of
    a loss (one-sided, not corrected), and whether the loss is significant over all cells."""
    columns = ["rate", "class", "scope"]
    columns += [
        f"{when}_{what}" for when in ("before", "after") for what in ("right", "images", "value", "low", "high")
    ]
    rows: list[list[object]] = [[*columns, "change", "change_low", "change_high", "p", "significant"]]
    for cell in cells.cells:
        rates = [v for r in (cell.before, cell.after) for v in (r.right, r.images, r.value, r.low, r.high)]
        rows.append([cell.rate, cell.label, cell.scope, *rates, *cell.change, cell.p, cell.significant])
    return _csv(rows)


def flips_csv(flips: Sequence[Flip]) -> bytes:
    """One line per image with another answer, those first of which the full-precision model was the most sure."""
    names = [each.name for each in fields(Flip)]
    return _csv([names, *([getattr(flip, name) for name in names] for flip in flips)])


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Numbers with six digits; empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        writer.writerow([("" if math.isnan(v) else f"{v:.6g}") if isinstance(v, float) else plain_cell(v) for v in row])
    return stream.getvalue().encode()


def plan_csv(plan: BitPlan | None) -> bytes:
    """layer, unit, weights, bits: one line per unit."""
    rows: list[list[object]] = [["layer", "unit", "weights", "bits"]]
    if plan is not None:
        for layer, bits in plan.bits.items():
            rows += [[layer, unit, plan.unit_sizes[layer], value] for unit, value in enumerate(bits.tolist())]
    return _csv(rows)


def plain(value: object) -> object:
    """Data classes, tuples and undefined numbers as JSON has them."""
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return plain(asdict(value))  # type: ignore[call-overload]
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return finite(value) if isinstance(value, float) else value
