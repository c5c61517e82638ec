"""A reducer for those who know how much each group is to count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fairquant.errors import UserError, suggestion


@dataclass(frozen=True)
class Weighted:
    """sum_g w_g I_g / sum_g w_g: the more a group's weight, the more bits go to the units that it needs.

    weights: group -> its weight; groups that are not named have 1.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    example: ClassVar[dict[str, object]] = {"weights": {"a": 2.0}}

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weights: {name!r}: must be a finite number, 0 or more, got {weight!r}")

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]. UserError where no group is called so, or all that there are weigh nothing."""
        if unknown := [name for name in self.weights if name not in group_names]:
            raise UserError(
                f"reducer.weights: no group is called {unknown[0]!r}.{suggestion(unknown[0], group_names)} "
                f"Groups: {', '.join(group_names)}"
            )
        weights = torch.tensor([self.weights.get(name, 1.0) for name in group_names]).to(importance)
        if float(weights.sum()) == 0:
            raise UserError("reducer.weights: every group has the weight 0: nobody would count")
        return (weights[:, None] * importance).sum(0) / weights.sum()
