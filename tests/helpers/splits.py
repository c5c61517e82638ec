"""Small splits whose groups and classes are unequal."""

from __future__ import annotations

import numpy as np
import torch

from fairquant.roles import Split


class Ramp:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3, 4, 4), float(index))


def unequal_split() -> Split:
    """90 images of group 0 and 10 of group 1; class 1 is rare in either."""
    groups = np.repeat([0, 1], [90, 10]).astype(np.int64)
    labels = np.zeros(100, np.int64)
    labels[[0, 1, 2, 95]] = 1
    return Split(Ramp(100), labels, groups, tuple(map(str, range(100))))
