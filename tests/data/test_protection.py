"""For whom a plan works: groups, classes, cells, nobody in particular, or named classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairquant_fair.fisher import Fisher
from helpers.training import small_network, small_split

from fairquant.bits import find_layers
from fairquant.data.protection import OTHERS, protect
from fairquant.errors import UserError
from fairquant.roles import Batch, Split, Splits

CLASSES, GROUPS = ("MEL", "NV", "BKL"), ("dark", "light")


def part(labels, groups):
    labels, groups = np.array(labels, np.int64), np.array(groups, np.int64)
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * len(labels)
    return Split(images, labels, groups, tuple(map(str, range(len(labels)))))


@pytest.fixture
def splits():
    """No BKL of dark in train, one in test."""
    return Splits(
        train=part([0, 0, 1, 1, 2], [0, 1, 0, 1, 1]), validation=part([1, 0], [1, 0]), test=part([2, 2, 0], [0, 1, 1]),
        group_names=GROUPS, class_names=CLASSES, calibration=part([0, 1], [0, 1]), fingerprint="f", attributes=("skin",),
    )  # fmt: skip


def names(splits, split):
    return [splits.group_names[group] for group in getattr(splits, split).groups]


@pytest.mark.parametrize(
    ("whom", "train", "test", "parts"),
    [
        ("groups", ["dark", "light", "dark", "light", "light"], ["dark", "light", "light"], GROUPS),
        ("classes", ["MEL", "MEL", "NV", "NV", "BKL"], ["BKL", "BKL", "MEL"], CLASSES),
        ("none", ["all images"] * 5, ["all images"] * 3, ("all images",)),
        (("BKL",), [OTHERS] * 4 + ["BKL"], ["BKL", "BKL", OTHERS], ("BKL", OTHERS)),
        (("BKL", "MEL"), ["MEL", "MEL", OTHERS, OTHERS, "BKL"], ["BKL", "BKL", "MEL"], ("BKL", "MEL", OTHERS)),
        (CLASSES, ["MEL", "MEL", "NV", "NV", "BKL"], ["BKL", "BKL", "MEL"], CLASSES),
        ("cells", ["MEL, dark", "MEL, light", "NV, dark", "NV, light", "BKL, light"], ["MEL, dark", "BKL, light", "MEL, light"],
         ("MEL, dark", "MEL, light", "NV, dark", "NV, light", "BKL, light")),
    ],
)  # fmt: skip
def test_every_image_has_its_part(splits, whom, train, test, parts):
    """Parts without a training image are left out; a test image of one is put into the first."""
    made = protect(splits, whom)
    assert (names(made, "train"), names(made, "test"), made.group_names) == (train, test, parts)
    assert names(made, "calibration") == [train[0], train[3]]
    assert np.array_equal(made.train.labels, splits.train.labels)
    assert splits.group_names == GROUPS  # the data stay as they are
    assert names(splits, "train") == ["dark", "light", "dark", "light", "light"]


def test_unknown_classes_are_all_named(splits):
    with pytest.raises(UserError) as caught:
        protect(splits, ("MELL", "MEL", "wart"))
    assert list(caught.value.problems) == [
        "protect: the data have no class 'MELL'. Did you mean 'MEL'? Classes: MEL, NV, BKL",
        "protect: the data have no class 'wart'. Classes: MEL, NV, BKL",
    ]


def test_the_importance_of_protected_classes_is_that_of_groups_which_are_the_classes():
    split = small_split(32)
    splits = Splits(
        train=split, validation=split, test=split, group_names=("dark", "light"), class_names=("mole", "wart"), fingerprint="f",
        attributes=("skin",),
    )  # fmt: skip
    network = small_network().eval()
    layers = find_layers(network, "channel")

    def importance(groups, parts):
        images = torch.stack([split.images[row] for row in range(32)]).float() / 255
        batch = Batch(images, torch.from_numpy(split.labels), torch.from_numpy(groups))
        return Fisher().measure(network, [batch], layers, parts)

    made = protect(splits, "classes")
    protected = importance(made.train.groups, made.group_names)
    expected = importance(split.labels, ("mole", "wart"))
    by_group = importance(split.groups, ("dark", "light"))
    assert protected.group_names == ("mole", "wart")
    assert torch.equal(protected.table(), expected.table())
    assert not torch.allclose(protected.table(), by_group.table())
