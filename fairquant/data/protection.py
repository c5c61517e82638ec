"""For whom a plan and its training work: the attribute's groups, the classes, or each class in each group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairquant.errors import UserError, unknown_classes
from fairquant.recipe.sections import Protect
from fairquant.roles.dataset import IntArray, Split, Splits

OTHERS = "other classes"


def protect(splits: Splits, whom: Protect) -> Splits:
    """The splits with the protected parts in the place of groups: importance, allocation, regularizers and samplers then
    work for these. Parts without a training image are left out: nothing can be measured or learned for them; an image of
    validation or test that belongs to none of the parts is put into the first.

    whom: "groups" (as they are), "classes", "cells" (each class in each group), "none" (all images together), or names of
    classes, each a part of its own beside all other classes. Raises UserError for a class that the data do not have.
    """
    if whom == "groups":
        return splits
    names, table = _parts(splits, whom)

    def part(split: Split) -> IntArray:
        return table[split.labels, split.groups]

    used = np.unique(part(splits.train))
    number = np.zeros(len(names), np.int64)
    number[used] = np.arange(len(used))

    def regrouped(split: Split) -> Split:
        return replace(split, groups=number[part(split)])

    calibration = None if splits.calibration is None else regrouped(splits.calibration)
    return replace(
        splits, train=regrouped(splits.train), validation=regrouped(splits.validation), test=regrouped(splits.test),
        calibration=calibration, group_names=tuple(names[each] for each in used),
    )  # fmt: skip


def _parts(splits: Splits, whom: Protect) -> tuple[tuple[str, ...], IntArray]:
    """The parts' names, and the part of each class in each group [C, G]."""
    classes, groups = splits.class_names, splits.group_names
    shape = (len(classes), len(groups))
    if whom == "none":
        return ("all images",), np.zeros(shape, np.int64)
    by_class = np.arange(len(classes))[:, None]
    if whom == "classes":
        return classes, np.broadcast_to(by_class, shape)
    if whom == "cells":
        return tuple(f"{c}, {g}" for c in classes for g in groups), np.arange(shape[0] * shape[1]).reshape(shape)
    listed = tuple(whom)
    if problems := unknown_classes("protect", listed, classes):
        raise UserError(problems)
    place = [listed.index(name) if name in listed else len(listed) for name in classes]
    return (*listed, OTHERS), np.broadcast_to(np.array(place, np.int64)[:, None], shape)
