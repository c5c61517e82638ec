"""The data as they were read, in words and tables, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairquant.recipe.schema import Recipe
from fairquant.roles.dataset import Splits

#: More classes or groups than this are summed up.
MOST_CLASSES, MOST_GROUPS = 24, 8


def cells(splits: Splits) -> NDArray[np.int64]:
    """Images of each class in each group, in all splits together [C, G]."""
    shape = (len(splits.class_names), len(splits.group_names))
    table = np.zeros(shape, np.int64)
    for split in (splits.train, splits.validation, splits.test):
        np.add.at(table, (split.labels, split.groups), 1)
    return table


def cells_text(splits: Splits) -> str:
    """Images of each class in each group, as a table for the terminal; of many, the smallest ones in words."""
    table = cells(splits)
    total = " + ".join(str(len(each)) for each in (splits.train, splits.validation, splits.test))
    head = f"{int(table.sum())} images ({total} in train, validation, test), by {' x '.join(splits.attributes)}:"
    if len(splits.class_names) > MOST_CLASSES or len(splits.group_names) > MOST_GROUPS:
        label, group = (int(number) for number in np.unravel_index(int(table.argmin()), table.shape))
        rarest = int(table.sum(1).argmin())
        return (
            f"{head} {len(splits.class_names)} classes in {len(splits.group_names)} groups; fewest images: class "
            f"{splits.class_names[rarest]!r} ({int(table.sum(1)[rarest])}), and {int(table[label, group])} of "
            f"{splits.class_names[label]!r} in {splits.group_names[group]!r}"
        )
    rows = [["", *splits.group_names, "all"]]
    rows += [
        [name, *map(str, counts), str(int(counts.sum()))]
        for name, counts in zip(splits.class_names, table, strict=True)
    ]
    rows.append(["all", *map(str, table.sum(0)), str(int(table.sum()))])
    return "\n".join([head, *aligned(rows)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text with their columns below each other, the first on the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def leaks(recipe: Recipe, splits: Splits) -> list[str]:
    """What makes the results too good although no image is in two splits."""
    if recipe.model.weights is None or splits.given:
        return []
    return [
        f"model.weights {recipe.model.weights} may have been trained on images that are test images here, which makes every number "
        "too good: the splits are drawn. Give the lists of images it was trained, chosen and tested on (dataset.split)"
    ]
