"""Cells as report.json has them."""

from __future__ import annotations

import math

from fairquant.audit.cells import Cell, Cells
from fairquant.recipe.events import CellReport, CellsReport, IntervalReport


def cells_report(cells: Cells) -> CellsReport:
    return {"lost": [cell_report(cell) for cell in cells.lost()], "judged": cells.judged, "undecided": cells.undecided}


def cell_report(cell: Cell) -> CellReport:
    return {
        "rate": cell.rate, "label": cell.label, "scope": cell.scope, "images": cell.after.images,
        "before": finite(cell.before.value), "after": finite(cell.after.value), "change": interval_report(cell.change),
    }  # fmt: skip


def interval_report(values: tuple[float, float, float]) -> IntervalReport:
    """(value, low, high) as report.json has it."""
    return {"value": finite(values[0]), "low": finite(values[1]), "high": finite(values[2])}


def finite(value: float | None) -> float | None:
    """JSON has no NaN: undefined numbers become null."""
    return value if value is not None and math.isfinite(value) else None
