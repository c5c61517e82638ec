"""What a study can want of a trial besides its objectives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairquant.errors import suggestion
from fairquant.registry.build import Problems

#: How many limits of `accept` are broken, and how many cannot be told, on validation.
BROKEN, UNDECIDED = "limits-broken", "limits-undecided"
#: Quantities of a run besides its metrics.
FACTS = ("bits", "megabytes", BROKEN, UNDECIDED)


@dataclass(frozen=True)
class Constraint:
    """quantity >= value, or <= value; value counts from the full-precision model's where `from_baseline`."""

    quantity: str
    at_least: bool
    value: float
    from_baseline: bool

    def text(self) -> str:
        base = (
            f"baseline {'-' if self.value < 0 else '+'} {abs(self.value):g}"
            if self.from_baseline
            else f"{self.value:g}"
        )
        return f"{self.quantity} {'at least' if self.at_least else 'at most'} {base}"

    def violation(self, value: float, baseline: float | None) -> float:
        """Above 0 where it is broken, by how much."""
        bound = self.value + (baseline or 0.0) if self.from_baseline else self.value
        return bound - value if self.at_least else value - bound


def read_constraints(quantity: str, bounds: Any, known: tuple[str, ...], problems: Problems) -> list[Constraint]:
    """The bounds of one quantity; known: labels and FACTS. Problems are added as (dotted key, text)."""
    key = f"search.constraints.{quantity}"
    if quantity == "accept":
        return _accept(key, bounds, problems)
    check_quantity(key, quantity, known, problems)
    if not isinstance(bounds, Mapping) or not bounds or set(bounds) - {"at_least", "at_most"}:
        problems.append((key, f"expected {{at_least: ...}} or {{at_most: ...}}, got {bounds!r}"))
        return []
    constraints = []
    for side, bound in bounds.items():
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            constraints.append(Constraint(quantity, side == "at_least", float(bound), False))
            continue
        match = re.fullmatch(r"baseline(?:\s*([+-])\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?))?", str(bound).strip())
        if match is None:
            problems.append((f"{key}.{side}", f"expected a number or 'baseline - 0.01', got {bound!r}"))
        elif quantity in FACTS:
            problems.append((f"{key}.{side}", f"the baseline has no {quantity}: give a number"))
        else:
            offset = float(match[2]) * (-1 if match[1] == "-" else 1) if match[2] else 0.0
            constraints.append(Constraint(quantity, side == "at_least", offset, True))
    return constraints


def _accept(key: str, answer: Any, problems: Problems) -> list[Constraint]:
    """`accept: PASS`: every limit of the section accept is kept; `accept: CANNOT TELL`: none is broken."""
    constraints = [Constraint(BROKEN, False, 0.0, False), Constraint(UNDECIDED, False, 0.0, False)]
    if answer not in ("PASS", "CANNOT TELL"):
        problems.append((key, f"expected PASS (every limit is kept) or CANNOT TELL (none is broken), got {answer!r}"))
        return []
    return constraints if answer == "PASS" else constraints[:1]


def check_quantity(key: str, quantity: Any, known: tuple[str, ...], problems: Problems) -> None:
    """A problem where a quantity is none of the known."""
    if quantity not in known:
        close = suggestion(str(quantity), known)
        problems.append((key, f"the recipe measures no {str(quantity)!r}.{close} Known: {', '.join(known)}"))
