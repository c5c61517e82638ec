"""The contract of role `dataset`. Where its data are not on this machine, only check() is held against it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairquant.roles import DataContext, Splits
from fairquant.testing.contract import NotApplicable

SIZE = 32


def _load(dataset: Any, seed: int = 0) -> Splits:
    if missing := dataset.check():
        raise NotApplicable(f"its data are not here: {missing[0]}")
    found: Splits = dataset.load(DataContext(seed, SIZE, Path(tempfile.gettempdir()) / "fairquant-testing"))
    return found


def _parts(splits: Splits) -> dict[str, Any]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def says_what_is_missing(dataset: Any) -> None:
    """check() gives a list of sentences, empty where all is there."""
    found = dataset.check()
    assert isinstance(found, list) and all(isinstance(text, str) for text in found), f"check() gave {found!r}"


def labels_and_groups_fit_their_names(dataset: Any) -> None:
    """Each part has images, int64 labels and groups within the names, and as many ids."""
    splits = _load(dataset)
    for name, part in _parts(splits).items():
        assert len(part) > 0, f"{name} has no images"
        sizes = {len(part.images), len(part.labels), len(part.groups), len(part.ids)}
        assert len(sizes) == 1, f"{name}: images, labels, groups and ids are {sorted(sizes)} long"
        for what, values, names in (
            ("labels", part.labels, splits.class_names),
            ("groups", part.groups, splits.group_names),
        ):
            assert values.dtype == np.int64, f"{name}: {what} are {values.dtype}, not int64"
            assert values.min() >= 0 and values.max() < len(names), f"{name}: {what} go beyond the {len(names)} names"


def images_are_three_channels_of_the_size_asked_for(dataset: Any) -> None:
    """uint8 [3, size, size], or float of three channels."""
    for name, part in _parts(_load(dataset)).items():
        image = part.images[0]
        assert isinstance(image, torch.Tensor), f"{name}: an image is a {type(image).__name__}"
        fits = image.dtype.is_floating_point or (image.dtype == torch.uint8 and image.shape[1:] == (SIZE, SIZE))
        assert image.ndim == 3 and image.shape[0] == 3 and fits, (
            f"{name}: an image is {image.dtype} {list(image.shape)}"
        )


def no_image_is_in_two_parts(dataset: Any) -> None:
    """Train, validation and test share no id."""
    ids = {name: set(part.ids) for name, part in _parts(_load(dataset)).items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = sorted(ids[one] & ids[other])
        assert not shared, f"{len(shared)} image(s) are in {one} and in {other}, such as {shared[0]!r}"


def the_same_seed_gives_the_same_splits(dataset: Any) -> None:
    """Loaded twice: the same images, labels, groups and fingerprint."""
    one, two = _load(dataset), _load(dataset)
    assert one.fingerprint == two.fingerprint, "two fingerprints for one data set"
    for (name, a), b in zip(_parts(one).items(), _parts(two).values(), strict=True):
        assert a.ids == b.ids, f"{name}: other images"
        assert np.array_equal(a.labels, b.labels) and np.array_equal(a.groups, b.groups), (
            f"{name}: other labels or groups"
        )
        assert torch.equal(a.images[0], b.images[0]), f"{name}: other pixels"


CHECKS = (
    says_what_is_missing, labels_and_groups_fit_their_names, images_are_three_channels_of_the_size_asked_for,
    no_image_is_in_two_parts, the_same_seed_gives_the_same_splits,
)  # fmt: skip
