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
    otherwise hide what happened in the few cells that can show it.
    """
    counted = np.ones(len(p), bool) if smallest is None else smallest <= level / _tarone(smallest, level)
    rejected = np.zeros(len(p), bool)
    rest = int(counted.sum())
    for test in np.argsort(np.where(counted, p, np.inf), kind="stable")[:rest]:
        left = rest - int(rejected.sum())
        if p[test] > level / left:
            break
        rejected[test] = True
    return Joint(rejected, level / max(rest - int(rejected.sum()), 1))


def _tarone(smallest: Floats, level: float) -> int:
    """The least k such that at most k tests could be rejected at level / k."""
    for k in range(1, len(smallest) + 1):
        if int((smallest <= level / k).sum()) <= k:
            return k
    return max(len(smallest), 1)
