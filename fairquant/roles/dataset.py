"""Role `dataset`: images, labels and a sensitive group for each, split so that nothing leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

IntArray = NDArray[np.int64]
#: Which values of an image with more than 8 bits become black and white: the whole range that its format can hold (a DICOM file: its
#: own window), the 0.5th and 99.5th percentile of its own values, or these two values.
Intensity = Literal["full", "percentile"] | tuple[float, float]
#: Seed of a split that is drawn; scikit-learn takes no larger one.
SplitSeed = Annotated[int, Field(ge=0, lt=2**32)]
#: What joins the values of several attributes in the name of a group, such as "female x 40-60".
JOINED = " x "


@runtime_checkable
class Images(Protocol):
    """Images by index: uint8 [3, H, W] (normalised and augmented by the engine) or float (taken as it is)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Tensor: ...


class Pixels(Protocol):
    """uint8 pixels [N, H, W, 3] by row: an array, or what reads them from the cache."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ArrayImages:
    """Rows `index` of pixels [N, H, W, 3], in memory or in the cache."""

    array: Pixels
    index: IntArray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.array[int(self.index[index])])).permute(2, 0, 1)


@dataclass(frozen=True)
class Split:
    """One part of the data. labels, groups: int64 [N]; ids name each image in predictions.npz."""

    images: Images
    labels: IntArray
    groups: IntArray
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: IntArray) -> Split:
        return Split(
            Subset(self.images, rows), self.labels[rows], self.groups[rows], tuple(self.ids[row] for row in rows)
        )


@dataclass(frozen=True)
class Subset:
    """Rows of other images."""

    images: Images
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[int(self.rows[index])]


@dataclass(frozen=True)
class Concat:
    """The images of several parts, one part after the other."""

    parts: tuple[Images, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Tensor:
        for images in self.parts:
            if index < len(images):
                return images[index]
            index -= len(images)
        raise IndexError(index)


def concat(parts: tuple[Split, ...]) -> Split:
    """All images of several parts, one part after the other."""
    return Split(
        Concat(tuple(split.images for split in parts)),
        np.concatenate([split.labels for split in parts]),
        np.concatenate([split.groups for split in parts]),
        tuple(name for split in parts for name in split.ids),
    )


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a dataset gives. `fingerprint` is a digest of its content; `notes` what was dropped, with counts; `given`: the data say
    which image is in which split (otherwise they are drawn); `intensity`: how images with more than 8 bits were read."""

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    attributes: tuple[str, ...]
    fingerprint: str
    calibration: Split | None = None  # None: drawn from train by the engine, see recipe key `calibration`
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    given: bool = False
    intensity: Intensity = "full"


@dataclass(frozen=True)
class DataContext:
    """What the engine tells a dataset: the run's seed, the model's image size [pixels], where decoded images go."""

    seed: int
    image_size: int
    cache: Path
    progress: Callable[[str, int], Callable[[int], None]] | None = None  # (what, total) -> advance(n)


@runtime_checkable
class Dataset(Protocol):
    """A table of images with a sensitive attribute.

    Law: the same options and seed give the same splits; no image (nor lesion, where known) is in two splits.

        @dataclass(frozen=True)
        class TwoDots:
            images: int = 600

            def check(self) -> list[str]:
                return []                      # what is missing on this machine, in words; [] where nothing is

            def load(self, context: DataContext) -> Splits:
                draw = np.random.default_rng(context.seed)
                labels, groups = draw.integers(0, 2, self.images), draw.integers(0, 2, self.images)
                array = draw.integers(0, 99, (self.images, context.image_size, context.image_size, 3), np.uint8)
                array[labels == 1, 4:12, 4:12] += 120
                images = LabelledImages(       # from fairquant.data.splits, as are the two functions below
                    array=array, labels=labels, groups=groups, ids=[f"image {row}" for row in range(self.images)],
                    class_names=["plain", "square"], group_names=["a", "b"], attributes=["letter"], digest="two-dots-1",
                )
                return make_splits(images, split_rows(labels, groups, context.seed))
    """

    def check(self) -> list[str]: ...
    def load(self, context: DataContext) -> Splits: ...


@dataclass(frozen=True)
class Source:
    """One file to download: its address, and where it goes under the data set's root. A zip is unpacked beside it."""

    url: str
    target: str
    unpack: bool = False


@runtime_checkable
class Downloadable(Protocol):
    """A dataset that `fairquant data prepare` can fetch into the folder `root`."""

    @property
    def root(self) -> str: ...

    def sources(self) -> tuple[Source, ...]:
        """Every file; asked again after each round, since a table that has arrived may name further files."""
        ...


def counts_of(splits: Splits) -> dict[str, object]:
    """Images per split, class and group: the `counts` of report.json."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        **{name: len(name_of_split) for name, name_of_split in parts.items()},
        "groups": {
            name: {name_of_split: int((split.groups == g).sum()) for name_of_split, split in parts.items()}
            for g, name in enumerate(splits.group_names)
        },
        "labels": {
            name: {name_of_split: int((split.labels == c).sum()) for name_of_split, split in parts.items()}
            for c, name in enumerate(splits.class_names)
        },
        **splits.counts,
    }
