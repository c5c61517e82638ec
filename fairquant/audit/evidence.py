"""What the test images say of quantities that have limits: p-values, intervals, and how many more images would tell.

Each class holds M quantities side by side; a limit's two hypotheses are "it is not kept", which PASS has to reject, and "nothing
is wrong", which FAIL has to reject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from fairquant.audit import paired

Floats = NDArray[np.float64]
#: More images than this are as good as none: the value itself is at the limit.
MOST_IMAGES = 1_000_000


class Evidence(Protocol):
    """M quantities, of which `limit` [M] are the limits; values above a limit are the wrong side of it."""

    @property
    def limit(self) -> Floats:
        """[M]."""
        ...

    @property
    def images(self) -> Floats:
        """What each rests on [M]."""
        ...

    @property
    def value(self) -> Floats:
        """[M]."""
        ...

    def p_kept(self, scale: Floats | float = 1.0) -> Floats:
        """One-sided p-value of "the limit is not kept" [M], as if there were `scale` times as many images like these."""
        ...

    def p_broken(self, scale: Floats | float = 1.0) -> Floats:
        """One-sided p-value of "nothing is wrong" [M]."""
        ...

    def smallest(self) -> Floats:
        """The smallest value that `p_broken` could have taken [M]."""
        ...

    def ends(self, below: float, above: float) -> tuple[Floats, Floats]:
        """The interval that leaves out these probabilities at its ends [M], [M]."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedProportions:
    """Losses of fractions of images, see `fairquant.audit.paired`; exact. All arrays [M]."""

    lost: Floats
    gained: Floats
    images: Floats
    limit: Floats

    @property
    def value(self) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            loss: Floats = (self.lost - self.gained) / self.images
        return loss

    def p_kept(self, scale: Floats | float = 1.0) -> Floats:
        lost, gained, images = (np.floor(scale * each + 1e-9) for each in (self.lost, self.gained, self.images))
        return np.asarray(paired.p_below(lost, gained, images, self.limit))

    def p_broken(self, scale: Floats | float = 1.0) -> Floats:
        return paired.p_above_zero(np.floor(scale * self.lost + 1e-9), np.ceil(scale * self.gained - 1e-9))

    def smallest(self) -> Floats:
        return paired.smallest_p(self.lost, self.gained)

    def ends(self, below: float, above: float) -> tuple[Floats, Floats]:
        """Tango's, widened where the exact tests are less certain."""
        low, high = paired.interval(self.lost, self.gained, self.images, below, above)
        low = np.where((self.p_broken() > below) & (low > 0), 0.0, low)
        return low, np.where((self.p_kept() > above) & (high < self.limit), self.limit, high)


@dataclass(frozen=True, kw_only=True, eq=False)
class Proportions:
    """Fractions of images that are wrong, against an absolute limit; exact (Clopper and Pearson, 1934). All arrays [M]."""

    wrong: Floats
    images: Floats
    limit: Floats

    @property
    def value(self) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction: Floats = self.wrong / self.images
        return fraction

    def p_kept(self, scale: Floats | float = 1.0) -> Floats:
        wrong, images = np.ceil(scale * self.wrong - 1e-9), np.floor(scale * self.images + 1e-9)
        return np.where(images > 0, binom.cdf(wrong, images, self.limit), 1.0)

    def p_broken(self, scale: Floats | float = 1.0) -> Floats:
        wrong, images = np.floor(scale * self.wrong + 1e-9), np.floor(scale * self.images + 1e-9)
        return np.where(images > 0, binom.sf(wrong - 1, images, self.limit), 1.0)

    def smallest(self) -> Floats:
        return np.asarray(self.limit**self.images)

    def ends(self, below: float, above: float) -> tuple[Floats, Floats]:
        from scipy.stats import beta

        right = self.images - self.wrong
        low = np.where(self.wrong > 0, beta.ppf(below, self.wrong, right + 1), 0.0)
        high = np.where(right > 0, beta.ppf(1 - above, self.wrong + 1, right), 1.0)
        known = self.images > 0
        return np.where(known, low, np.nan), np.where(known, high, np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """Any quantity, by the standard error of its bootstrap. Arrays [M].

    values: a loss or a rise, or an absolute value with the sign that makes more the worse; harmless: what it is where nothing
    is wrong (0 for a change, the limit itself for an absolute value); changed: images that could have shown harm, those whose
    answers differ, or all where that does not matter. shares, sizes [M, S]: of each part of the images, the share that would
    have to be misclassified for the limit to be reached, and the number of images. A bootstrap cannot know of harm that
    struck none of a few images: no p-value is below the probability that such a share goes unseen. left_out:
    cells that the metric leaves out for lack of images: nothing is known of them, and nothing passes.
    """

    values: Floats
    error: Floats
    images: Floats
    limit: Floats
    harmless: Floats
    changed: Floats
    shares: Floats
    sizes: Floats
    left_out: Floats

    @property
    def value(self) -> Floats:
        return self.values

    def _score(self, distance: Floats, scale: Floats | float) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            raw = distance / (self.error / np.sqrt(scale))
            score: Floats = np.where(self.error > 0, raw, np.where(distance == 0, 0.0, np.sign(distance) * np.inf))
        return score

    def p_kept(self, scale: Floats | float = 1.0) -> Floats:
        sizes = np.floor(np.broadcast_to(scale, self.values.shape)[:, None] * self.sizes + 1e-9)
        unseen = np.where(self.shares < 1, (1 - self.shares) ** sizes, 0.0).max(1)
        p = np.maximum(norm.cdf(self._score(self.values - self.limit, scale)), unseen)
        return np.where(self.left_out > 0, 1.0, np.nan_to_num(p, nan=1.0))

    def p_broken(self, scale: Floats | float = 1.0) -> Floats:
        p = np.maximum(norm.sf(self._score(self.values - self.harmless, scale)), self.smallest() ** scale)
        return np.asarray(np.nan_to_num(p, nan=1.0))

    def smallest(self) -> Floats:
        return np.asarray(0.5**self.changed)

    def ends(self, below: float, above: float) -> tuple[Floats, Floats]:
        low = self.values - norm.isf(below) * self.error
        high = self.values + norm.isf(above) * self.error
        low = np.where((self.p_broken() > below) & (low > self.harmless), self.harmless, low)
        return low, np.where((self.p_kept() > above) & (high < self.limit), self.limit, high)


def more_images(evidence: Evidence, kept: float, broken: float) -> Floats:
    """How many more images like these would tell [M]: that the limit is kept, where the value is below it, else that
    something is wrong. kept, broken: the levels of the two tests. NaN where even MOST_IMAGES would not.
    """
    fits = np.where(np.isfinite(evidence.value), evidence.value < evidence.limit, True)
    some = np.maximum(evidence.images, 1)
    low, high = np.zeros_like(some), np.log(MOST_IMAGES / some)

    def tells(scale: Floats) -> NDArray[np.bool_]:
        return np.where(fits, evidence.p_kept(scale) <= kept, evidence.p_broken(scale) <= broken)

    possible = tells(np.exp(high))
    for _ in range(40):
        middle = (low + high) / 2
        enough = tells(np.exp(middle))
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    needed = np.ceil(some * np.exp(high)) - evidence.images
    limits, place = np.unique(evidence.limit, return_inverse=True)
    unseen = np.array([_with_none(float(limit), kept) for limit in limits])[place]
    needed = np.where(evidence.images > 0, needed, unseen)
    undecidable = ~possible | (evidence.value == evidence.limit)
    return np.where(undecidable & (evidence.images > 0), np.nan, np.maximum(needed, 1))


def _with_none(limit: float, kept: float) -> float:
    """How many images, none of them with another answer, would show that a loss is below the limit."""
    if not 0 < limit < 1:
        return float("nan")
    images, none = float(np.ceil(np.log(kept) / np.log1p(-limit))), np.zeros(1)
    while images < MOST_IMAGES and float(paired.p_below(none, none, np.array([images]), limit)[0]) > kept:
        images += max(images // 100, 1)
    return images
