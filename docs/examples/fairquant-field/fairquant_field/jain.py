"""Jain's fairness index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fairquant.roles import Confusion, Rates


@dataclass(frozen=True)
class JainIndex:
    """(sum a_g)^2 / (G sum a_g^2) of the groups' accuracies: 1 when all are equal, 1/G when all but one are 0.

    Jain, Chiu and Hawe (1984). Groups without images are left out.
    """

    needs: ClassVar[Literal["confusion"]] = "confusion"
    gap: ClassVar[bool] = False

    def evaluate(self, confusion: Confusion) -> Rates:
        """value [...], by_group [..., G]: the accuracies."""
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = confusion.hits.sum(-1) / confusion.images  # [..., G]
            groups = np.isfinite(accuracy).sum(-1)
            index = np.nansum(accuracy, -1) ** 2 / (groups * np.nansum(accuracy**2, -1))
        return Rates(index, by_group=accuracy)
