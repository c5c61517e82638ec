"""The contract of role `dataset`. Where the data are not on this machine, only check() is tested."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from fairquant.roles import DataContext, Dataset, Downloadable, Source, Split, Splits
from fairquant.testing.contract import NotApplicable

SIZE = 32  # pixels


def _load(dataset: Dataset, seed: int = 0) -> Splits:
    if missing := dataset.check():
        raise NotApplicable(f"its data are not available: {missing[0]}")
    return dataset.load(DataContext(seed, SIZE, Path(tempfile.gettempdir()) / "fairquant-testing"))


def _by_name(splits: Splits) -> dict[str, Split]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def says_what_is_missing(dataset: Dataset) -> None:
    """check() returns a list of sentences, empty where nothing is missing."""
    missing: object = dataset.check()
    valid = isinstance(missing, list) and all(isinstance(text, str) for text in missing)
    assert valid, f"check() returned {missing!r}"


def labels_and_groups_fit_their_names(dataset: Dataset) -> None:
    """Each split has as many images as labels, groups and ids; labels and groups are int64 indices into the names."""
    splits = _load(dataset)
    for name, split in _by_name(splits).items():
        assert len(split) > 0, f"{name} has no images"
        lengths = {len(split.images), len(split.labels), len(split.groups), len(split.ids)}
        assert len(lengths) == 1, f"{name}: images, labels, groups and ids have the lengths {sorted(lengths)}"
        for what, values, names in (
            ("labels", split.labels, splits.class_names),
            ("groups", split.groups, splits.group_names),
        ):
            assert values.dtype == np.int64, f"{name}: {what} are {values.dtype}, not int64"
            assert values.min() >= 0 and values.max() < len(names), f"{name}: {what} exceed the {len(names)} names"


def images_are_three_channels_of_the_size_asked_for(dataset: Dataset) -> None:
    """uint8 [3, size, size], or float of three channels."""
    for name, split in _by_name(_load(dataset)).items():
        image = split.images[0]
        assert isinstance(image, torch.Tensor), f"{name}: an image is a {type(image).__name__}"
        fits = image.dtype.is_floating_point or (image.dtype == torch.uint8 and image.shape[1:] == (SIZE, SIZE))
        valid = image.ndim == 3 and image.shape[0] == 3 and fits
        assert valid, f"{name}: an image is {image.dtype} {list(image.shape)}"


def no_image_is_in_two_splits(dataset: Dataset) -> None:
    """Train, validation and test have no id in common."""
    ids = {name: set(split.ids) for name, split in _by_name(_load(dataset)).items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = sorted(ids[one] & ids[other])
        assert not shared, f"{len(shared)} image(s) are in both {one} and {other}, such as {shared[0]!r}"


def the_same_seed_gives_the_same_splits(dataset: Dataset) -> None:
    """Loading twice gives the same images, labels, groups and fingerprint."""
    one, two = _load(dataset), _load(dataset)
    assert one.fingerprint == two.fingerprint, "two fingerprints for one data set"
    for (name, a), b in zip(_by_name(one).items(), _by_name(two).values(), strict=True):
        assert a.ids == b.ids, f"{name}: different images"
        same = np.array_equal(a.labels, b.labels) and np.array_equal(a.groups, b.groups)
        assert same, f"{name}: different labels or groups"
        assert torch.equal(a.images[0], b.images[0]), f"{name}: different pixels"


def sources_stay_under_the_root(dataset: Dataset) -> None:
    """`sources()`, where there is one, gives files with addresses and targets inside `root`."""
    if not isinstance(dataset, Downloadable):
        raise NotApplicable("it has nothing to download")
    for source in dataset.sources():
        assert isinstance(source, Source), f"sources() gave {source!r}"
        target = PurePosixPath(source.target)
        inside = not target.is_absolute() and ".." not in target.parts
        assert "://" in source.url and inside, f"{source.url!r} goes to {source.target!r}"


CHECKS = (
    says_what_is_missing, labels_and_groups_fit_their_names, images_are_three_channels_of_the_size_asked_for,
    no_image_is_in_two_splits, the_same_seed_gives_the_same_splits, sources_stay_under_the_root,
)  # fmt: skip
