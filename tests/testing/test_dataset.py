"""The checks of role `dataset`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers.contract import failures, own_checks

from fairquant.roles import ArrayImages, Source, Split, Splits


@dataclass(frozen=True)
class Dots:
    """A sound data set."""

    def check(self):
        return []

    def load(self, context):
        parts = [self.split(name, number, context) for number, name in enumerate(("train", "validation", "test"))]
        train, validation, test = parts
        return Splits(
            train=train,
            validation=validation,
            test=test,
            class_names=("x", "y"),
            group_names=("a", "b"),
            attributes=("group",),
            fingerprint="dots",
        )

    def split(self, name, number, context):
        draw = np.random.default_rng([context.seed, number])
        array = draw.integers(0, 255, (8, context.image_size, context.image_size, 3), np.uint8)
        labels, groups = np.arange(8) % 2, np.arange(8) // 2 % 2
        return Split(ArrayImages(array, np.arange(8)), labels, groups, tuple(f"{name}-{row}" for row in range(8)))


@dataclass(frozen=True)
class SaysNothing(Dots):
    """check() without an answer."""

    def check(self):
        return None


@dataclass(frozen=True)
class SmallIntegers(Dots):
    """Labels of 32 bits."""

    def split(self, name, number, context):
        split = super().split(name, number, context)
        return replace(split, labels=split.labels.astype(np.int32))


@dataclass(frozen=True)
class FixedSize(Dots):
    """Its images have a size of their own."""

    def split(self, name, number, context):
        return super().split(name, number, replace(context, image_size=16))


@dataclass(frozen=True)
class Leaks(Dots):
    """The same images in every part."""

    def split(self, name, number, context):
        return super().split("image", number, context)


@dataclass(frozen=True)
class NewEachTime(Dots):
    """A fingerprint by chance."""

    def load(self, context):
        return replace(super().load(context), fingerprint=str(uuid.uuid4()))


@dataclass(frozen=True)
class Climbs(Dots):
    """Downloads to a place outside its root."""

    root: str = "data"

    def sources(self):
        return (Source("https://example.org/table.csv", "../table.csv"),)


BROKEN = {
    "sources_stay_under_the_root": Climbs(),
    "says_what_is_missing": SaysNothing(),
    "labels_and_groups_fit_their_names": SmallIntegers(),
    "images_are_three_channels_of_the_size_asked_for": FixedSize(),
    "no_image_is_in_two_splits": Leaks(),
    "the_same_seed_gives_the_same_splits": NewEachTime(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("dataset", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("dataset") == set(BROKEN)


def test_a_sound_component_passes():
    assert failures("dataset", Dots()) == {}
