"""Of whom a number is: all images, a group, or all groups with one value of an attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fairquant.roles.dataset import JOINED

Floats = NDArray[np.float64]
Kind = Literal["all", "group", "attribute"]
ALL = "all images"


@dataclass(frozen=True, eq=False)
class Scopes:
    """names, kinds: S of them; members [S, G]: 1 where the group belongs to it."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    members: Floats

    def total(self, counts: Floats) -> Floats:
        """counts [G, ...] -> [S, ...]."""
        summed: Floats = np.tensordot(self.members, counts, 1)
        return summed


def scopes_of(group_names: Sequence[str], attributes: Sequence[str] = ()) -> Scopes:
    """All images, then each group; where groups are intersections of several attributes, then each value of each attribute."""
    groups = len(group_names)
    rows: list[tuple[str, Kind, list[int]]] = [(ALL, "all", list(range(groups)))]
    rows += [(name, "group", [number]) for number, name in enumerate(group_names)]
    values = [name.split(JOINED) for name in group_names]
    if len(attributes) > 1 and all(len(each) == len(attributes) for each in values):
        for place, attribute in enumerate(attributes):
            for value in dict.fromkeys(each[place] for each in values):
                numbers = [number for number, each in enumerate(values) if each[place] == value]
                rows.append((f"{attribute}: {value}", "attribute", numbers))
    members = np.zeros((len(rows), groups))
    for row, (_, _, numbers) in enumerate(rows):
        members[row, numbers] = 1
    return Scopes(tuple(row[0] for row in rows), tuple(row[1] for row in rows), members)
