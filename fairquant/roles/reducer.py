"""Role `reducer`: from one score per group to one score."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reducer(Protocol):
    """Reduces importance [G, U] over the groups to [U].

    Law: groups with equal rows give that row back (subtractive, which weights groups against each other, is exempt).

        @dataclass(frozen=True)
        class Median:
            def reduce(self, importance, group_names):
                return importance.median(0).values
    """

    def reduce(self, importance: Tensor, group_names: tuple[str, ...]) -> Tensor:
        """importance [G, U] -> [U]."""
        ...
