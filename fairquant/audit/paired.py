"""Paired proportions: what two models get right on the same images, tested exactly.

Of the images that count, `lost` are those that only the first model gets right, `gained` those that only the second does.
Their difference is the loss. All arrays may have any shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

Floats = NDArray[np.float64]
STEPS = 60  # of a bisection: the ends of an interval are exact to 2^-60
#: Half an image: with it, and the binomial bound, the test's size stays below its level for every number of images
#: and every rate of discordant pairs that were tried (tests/audit/test_paired.py enumerates them).
CORRECTION = 0.5


def wilson(right: Floats, images: Floats, level: float) -> tuple[Floats, Floats]:
    """Score interval of a proportion (Wilson, 1927): right, images [...] -> low, high [...]; NaN without images."""
    z2 = float(norm.isf((1 - level) / 2)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = right / images
        centre = (fraction + z2 / (2 * images)) / (1 + z2 / images)
        spread = np.sqrt(z2 * (fraction * (1 - fraction) + z2 / (4 * images)) / images) / (1 + z2 / images)
        low, high = np.clip(centre - spread, 0, 1), np.clip(centre + spread, 0, 1)
    low, high = np.where(right == 0, 0.0, low), np.where(right == images, 1.0, high)  # without rounding
    return np.where(images > 0, low, np.nan), np.where(images > 0, high, np.nan)


def score(lost: Floats, gained: Floats, images: Floats, loss: Floats | float) -> Floats:
    """Tango's score for a true loss (Tango, Statistics in Medicine 17, 1998, equation 3): standard normal where it is."""
    quadratic, constant = 2 * images, -gained * loss * (1 - loss)
    linear = -lost - gained + (2 * images - lost + gained) * loss
    root = np.sqrt(np.maximum(linear**2 - 4 * quadratic * constant, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        only_second = (root - linear) / (2 * quadratic)
        variance = np.maximum(images * (2 * only_second + loss * (1 - loss)), 0)
        value: Floats = (lost - gained - images * loss) / np.sqrt(variance)
    return np.where(variance > 0, value, np.sign(lost - gained - images * loss) * np.inf)


def p_below(lost: Floats, gained: Floats, images: Floats, limit: Floats | float) -> Floats:
    """One-sided p-value of "the loss is at least `limit`" [...], for a limit above 0: small where the loss is shown to be
    below.

    Tango's test with a correction for continuity, and never less than the exact probability of so small a loss where no
    image is gained. 1 without images.
    """
    with np.errstate(invalid="ignore"):
        asymptotic = norm.cdf(score(lost + CORRECTION, gained, images, limit))
    exact = binom.cdf(lost - gained, images, limit)
    return np.where(images > 0, np.maximum(np.nan_to_num(asymptotic, nan=1.0), exact), 1.0)


def p_above_zero(lost: Floats, gained: Floats) -> Floats:
    """One-sided p-value of "nothing is lost" [...]: McNemar's exact test."""
    return np.asarray(binom.sf(lost - 1, lost + gained, 0.5))


def smallest_p(lost: Floats, gained: Floats) -> Floats:
    """The smallest value that `p_above_zero` could have with as many discordant images [...]."""
    floor: Floats = 0.5 ** (lost + gained)
    return floor


def interval(
    lost: Floats, gained: Floats, images: Floats, below: float = 0.025, above: float = 0.025
) -> tuple[Floats, Floats]:
    """Ends of Tango's interval of the loss [...]; below, above: the probability left out at each end. NaN without images."""
    fraction = (lost - gained) / np.maximum(images, 1)
    ends = []
    for tail, far in ((below, -1.0), (above, 1.0)):
        wanted = float(norm.isf(tail)) * -far  # the score at the end: positive below the loss, negative above
        near, outer = fraction.copy(), np.full_like(fraction, far)
        for _ in range(STEPS):
            middle = (near + outer) / 2
            with np.errstate(invalid="ignore"):
                inside = np.abs(np.nan_to_num(score(lost, gained, images, middle))) < abs(wanted)
            near, outer = np.where(inside, middle, near), np.where(inside, outer, middle)
        ends.append(np.where(images > 0, near, np.nan))
    return ends[0], ends[1]
