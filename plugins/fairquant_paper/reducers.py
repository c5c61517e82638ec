"""From importance per group [G, U] to one score per unit [U] (reference 1.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fairquant.errors import UserError, suggestion


@dataclass(frozen=True)
class Max:
    """max_g I_g: no group's need is averaged away."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        return importance.max(0).values


@dataclass(frozen=True)
class Mean:
    """mean_g I_g: every group counts alike, whatever its size."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        return importance.mean(0)


@dataclass(frozen=True)
class Cvar:
    """Mean of the worst `alpha` share of groups (Rockafellar & Uryasev, 2000): alpha -> 0 is max, alpha = 1 is mean.

    A share that is not a whole number of groups counts the last of them in part.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha: must be in (0, 1], got {self.alpha!r}")

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        ranked = importance.sort(0, descending=True).values
        share = max(self.alpha * len(ranked), 1.0)  # never less than the single worst group
        whole = min(math.floor(share + 1e-9), len(ranked))
        total = ranked[:whole].sum(0)
        if whole < len(ranked):
            total = total + (share - whole) * ranked[whole]
        return total / share


@dataclass(frozen=True)
class Balanced:
    """max_g I_g / (T_g / sum T), T_g the total importance of g: groups with small gradients are heard as well."""

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        totals = importance.sum(1, keepdim=True)
        share = (totals / totals.sum()).clamp_min(1e-30)
        return (importance / share).max(0).values


@dataclass(frozen=True)
class Subtractive:
    """I_unprivileged - beta * I_privileged  (FairQuantize, MICCAI 2024).

    unprivileged: the group's name. With more than two groups, the privileged score is the mean of all others.
    Negative scores mean that bits spent there serve only the others; the largest score gets the most bits.
    """

    unprivileged: str
    beta: float = 0.5
    example: ClassVar[dict[str, object]] = {"unprivileged": "a"}

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        if self.unprivileged not in group_names:
            raise UserError(
                f"reducer.unprivileged: no group is called {self.unprivileged!r}."
                f"{suggestion(self.unprivileged, group_names)} Groups: {', '.join(group_names)}"
            )
        own = group_names.index(self.unprivileged)
        others = [group for group in range(len(group_names)) if group != own]
        return importance[own] - self.beta * importance[others].mean(0)
