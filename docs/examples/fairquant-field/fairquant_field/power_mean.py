"""A reducer between the mean and the maximum."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PowerMean:
    """(mean_g I_g^p)^(1/p): p = 1 is the mean over groups, p -> infinity the maximum (Lan et al., 2010)."""

    power: float = 3.0

    def __post_init__(self) -> None:
        if self.power < 1:
            raise ValueError(f"power: must be at least 1, got {self.power!r}")

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U], not negative -> [U]."""
        largest = importance.max(0).values.clamp_min(1e-30)
        result: Tensor = (importance / largest).pow(self.power).mean(0).pow(1 / self.power) * largest
        return result
