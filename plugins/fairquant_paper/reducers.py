"""From importance per group [G, U] to one score per unit [U]: the reducers of the FairQuant paper (arXiv 2602.23192)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fairquant.errors import UserError, suggestion


@dataclass(frozen=True)
class Max:
    """max_g I_g: a unit is as important as it is to the group that needs it most."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]."""
        return importance.max(0).values


@dataclass(frozen=True)
class Mean:
    """mean_g I_g: every group counts equally, whatever its size."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]."""
        return importance.mean(0)


@dataclass(frozen=True)
class Cvar:
    """Mean over the worst fraction `alpha` of the groups (Rockafellar & Uryasev, 2000): alpha -> 0 is the maximum,
    alpha = 1 the mean.

    Where alpha * G is not a whole number, the last of these groups counts with the fractional part.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha: must be in (0, 1], got {self.alpha!r}")

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]."""
        ranked = importance.sort(0, descending=True).values
        count = max(self.alpha * len(ranked), 1.0)  # never less than the single worst group
        whole = min(math.floor(count + 1e-9), len(ranked))
        total = ranked[:whole].sum(0)
        if whole < len(ranked):
            total = total + (count - whole) * ranked[whole]
        return total / count


@dataclass(frozen=True)
class Balanced:
    """max_g I_g / (T_g / sum T), T_g the total importance of group g: compensates for groups with small gradients."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]."""
        totals = importance.sum(1, keepdim=True)
        fraction = (totals / totals.sum()).clamp_min(1e-30)
        return (importance / fraction).max(0).values


@dataclass(frozen=True)
class Subtractive:
    """I_unprivileged - beta * I_privileged  (FairQuantize, MICCAI 2024).

    unprivileged: the group's name. With more than two groups, the privileged score is the mean of all others.
    A negative score means that bits spent on the unit benefit the other groups only; the largest score gets the most bits.
    """

    unprivileged: str
    beta: float = 0.5
    example: ClassVar[dict[str, object]] = {"unprivileged": "a"}

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]. UserError where no group is called `unprivileged`."""
        if self.unprivileged not in group_names:
            raise UserError(
                f"reducer.unprivileged: no group is called {self.unprivileged!r}."
                f"{suggestion(self.unprivileged, group_names)} Groups: {', '.join(group_names)}"
            )
        unprivileged = group_names.index(self.unprivileged)
        privileged = [group for group in range(len(group_names)) if group != unprivileged]
        return importance[unprivileged] - self.beta * importance[privileged].mean(0)
