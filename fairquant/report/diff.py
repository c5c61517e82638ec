"""The data of a diff: two runs or artifacts side by side, A and B, and B minus A where both had the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairquant.report.comparison import Difference

#: same: both were tested on the same images; common: on some of them; none: no image can be matched.
Pairing = Literal["same", "common", "none"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over test images; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two. images: of its own test; predictions: where they come from.

    method, seed and bits are None where the file does not say; answer None where the recipe has no limits, or where the
    predictions are not those of the report.
    """

    path: str
    recipe: str
    method: str | None
    seed: int | None
    bits: float | None
    bytes: int
    answer: str | None
    images: int
    predictions: str


@dataclass(frozen=True)
class RecipeKey:
    """A dotted key of the recipes whose values differ, as JSON; empty where a recipe lacks it."""

    key: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A metric, the recall of a class, or a rate at the thresholds. difference: B minus A, paired; None where nothing is paired;
    images: of A and B, that a fraction of images rests on."""

    label: str
    a: Estimate
    b: Estimate
    difference: Difference | None
    lower_is_better: bool = False
    images: tuple[int, int] | None = None

    @property
    def says(self) -> str:
        """What the paired interval supports, in words."""
        return words(self.difference, self.lower_is_better)


@dataclass(frozen=True)
class Flips:
    """Images: predicted class differs; right in A and wrong in B; wrong in A and right in B."""

    changed: int
    newly_wrong: int
    newly_right: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """Accuracy of a group. images: of A and of B, 0 where it has no such group (its estimate is then None)."""

    name: str
    images: tuple[int, int]
    a: Estimate | None
    b: Estimate | None
    change: Difference | None
    flips: Flips | None

    @property
    def says(self) -> str:
        """What the paired interval supports, in words."""
        return words(self.change, lower_is_better=False)


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Two sides. recipe: what differs; images: how many the differences rest on, and `flips`; 0 and None: not paired."""

    a: Side
    b: Side
    demo: bool
    recipe: tuple[RecipeKey, ...]
    pairing: Pairing
    images: int
    notes: tuple[str, ...]
    metrics: tuple[Quantity, ...]
    flips: Flips | None
    groups: tuple[Group, ...]
    classes: tuple[Quantity, ...]
    decided: tuple[Quantity, ...] = ()


def words(difference: Difference | None, lower_is_better: bool) -> str:
    """Which side is better, where the interval of B minus A excludes 0."""
    if difference is None or difference.value != difference.value:
        return ""
    if not difference.significant:
        return "no difference shown"
    return "B better" if (difference.high < 0) == lower_is_better else "B worse"
