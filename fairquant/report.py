"""report.json and bit_plan.csv: what a run leaves for people's scripts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fairquant.audit import Audit
from fairquant.audit.evaluate import Change
from fairquant.roles import BitPlan, MetricValue


def metric_json(metric: MetricValue) -> dict[str, Any]:
    found = asdict(metric)
    del found["null"]
    return found


def audit_json(audit: Audit) -> dict[str, Any]:
    """The parts `metrics`, `baseline`, `change` of report.json."""
    return {
        "metrics": {label: metric_json(metric) for label, metric in audit.metrics.items()},
        "baseline": {"metrics": {label: metric_json(metric) for label, metric in audit.baseline.items()}},
        "change": {name: change_json(change) for name, change in audit.change.items()},
    }


def change_json(change: Change) -> dict[str, Any]:
    return asdict(change)


def bits_json(plan: BitPlan | None, start: BitPlan | None, weight_bytes: int, weights: int) -> dict[str, Any]:
    """average, histogram (bits -> weights), weight_bytes; moved: share of units off the starting plan."""
    if plan is None:
        return {"average": 32.0, "histogram": {"32": weights}, "weight_bytes": weight_bytes}
    found: dict[str, Any] = {
        "average": plan.average,
        "histogram": {str(bits): count for bits, count in plan.histogram().items()},
        "weight_bytes": weight_bytes,
    }
    if start is not None:
        found["moved"] = plan.moved(start)
    return found


def plan_csv(plan: BitPlan | None) -> bytes:
    """layer, unit, weights, bits: one line per unit."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["layer", "unit", "weights", "bits"])
    if plan is not None:
        for layer, bits in plan.bits.items():
            for unit, value in enumerate(bits.tolist()):
                writer.writerow([layer, unit, plan.unit_sizes[layer], value])
    return stream.getvalue().encode()


def plain(value: Any) -> Any:
    """JSON has no NaN: undefined numbers become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
