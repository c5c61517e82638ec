"""GPTQ (arXiv 2210.17323): rounding that compensates, blind to groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fairquant.roles.rounding import Need, Rounded, RoundingProblem, in_float64
from fairquant.rounding.compensate import compensate
from fairquant.rounding.levels import levels_of


@dataclass(frozen=True)
class Gptq:
    """Columns are rounded one after the other, the largest second moments first; what each loses is made up for by those that are
    left. The grid stays the quantizer's.

    The moments are means over all images, whatever their group. damping: added to the diagonal, as a fraction of its mean.
    """

    damping: float = 0.01
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})

    def __post_init__(self) -> None:
        if self.damping <= 0:
            raise ValueError(f"damping: must be above 0, got {self.damping!r}")

    def round(self, problem: RoundingProblem) -> Rounded:
        """The codes of one layer; those of the nearest points where its inputs are not known."""
        inputs = (problem := in_float64(problem)).inputs
        if inputs is None:
            return Rounded(weight=problem.grid)
        levels = levels_of(problem.grid, torch.float64)
        share = inputs.images / inputs.images.sum()
        moments = torch.einsum("g,gsij->sij", share, inputs.moments)
        target, step = problem.weight, problem.weight.shape[0] // len(moments)
        numbers = [
            compensate(target[rows], moments[number], levels.rows(rows), self.damping)
            for number, rows in enumerate(slice(first, first + step) for first in range(0, len(target), step))
        ]
        return Rounded(weight=levels.stored(torch.cat(numbers)), compensated=True)
