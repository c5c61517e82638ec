"""Rounding to the nearest point of the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairquant.roles.rounding import Need, Rounded, RoundingProblem


@dataclass(frozen=True)
class Nearest:
    """Every weight becomes the point that its quantizer gives it; nothing is measured."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def round(self, problem: RoundingProblem) -> Rounded:
        """The quantizer's own codes."""
        return Rounded(weight=problem.grid)
