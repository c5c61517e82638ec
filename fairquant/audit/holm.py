"""Several tests at once, with the probability of any error held over all of them (Holm, 1979)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Joint:
    """rejected [M]; level: what each test's own p-value is compared with in the end: those rejected are at most this, all
    others above it, so that one-sided intervals at 1 - level agree with the test."""

    rejected: NDArray[np.bool_]
    level: float


def holm(p: Floats, level: float = LEVEL, smallest: Floats | None = None) -> Joint:
    """p [M] -> which are rejected, with a probability of at most `level` that any of these is rejected wrongly.

    smallest [M]: the smallest value that each p could have had, given what does not depend on whether its hypothesis is
    true. Tests that could not have been rejected then do not count (Tarone, 1990); 114 classes in six groups would
    otherwise hide what happened in the few cells that can show it. Whether they count is asked again after each step.
    """
    floor = np.zeros(len(p)) if smallest is None else smallest
    rejected = np.zeros(len(p), bool)
    while True:
        each = _largest(floor[~rejected], level)
        more = ~rejected & (p <= each)
        if not more.any():
            return Joint(rejected, each)
        rejected |= more


def _largest(smallest: Floats, level: float) -> float:
    """The largest level such that this times the number of tests that could reach it is at most `level`."""
    ordered = np.append(np.sort(smallest), np.inf)
    for count in range(1, len(ordered)):
        further = float(ordered[count])
        if further > level / count:
            return level / count
        if further * (count + 1) > level:
            return float(np.nextafter(further, 0))
    return level
