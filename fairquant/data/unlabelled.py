"""Images without labels that a caller brings in Python's memory, in whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from fairquant.errors import UserError


class Unlabelled(Protocol):
    """A data set of float image tensors [3, H, W] ready for the model, of (image,), or of (image, group)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor | tuple[Tensor] | tuple[Tensor, int]: ...


#: Said where the labels are the model's own answers.
OWN_ANSWERS = (
    "no labelled images were given: labels are the full-precision model's own answers, so that accuracy is agreement with it, on the "
    "images that the model was calibrated with. Whether the model is right, and for whom, this cannot say"
)


@dataclass(frozen=True)
class WithoutLabels:
    """Unlabelled images in the form of labelled ones."""

    items: Unlabelled

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        item: object = self.items[index]
        if isinstance(item, tuple | list) and len(item) == 1:  # TensorDataset(images)
            item = item[0]
        image, group = item if isinstance(item, tuple | list) and len(item) == 2 else (item, 0)
        if not isinstance(image, Tensor):
            raise UserError(
                f"calibration: item {index} is of {type(image).__name__}; wanted is an image tensor (torch.from_numpy makes one of an "
                "array) or (image, group)"
            )
        return image, 0, group


def indexable(calibration: Unlabelled | Iterable[object]) -> Unlabelled:
    """calibration as something with len() and [i]: what can only be iterated over, such as a generator or a DataLoader, is read,
    and batches of images [B, 3, H, W] are taken apart, also those in a list."""
    if isinstance(calibration, Tensor):
        if calibration.dim() != 4:
            raise UserError(
                f"calibration: a tensor {tuple(calibration.shape)}, wanted are images [N, 3, H, W]"
                + (": put the one image into a list" if calibration.dim() == 3 else "")
            )
        return cast(Unlabelled, calibration)
    indexed = hasattr(calibration, "__len__") and hasattr(calibration, "__getitem__")
    if indexed and not isinstance(calibration, list | tuple):
        return cast(Unlabelled, calibration)
    if not isinstance(calibration, Iterable):
        raise UserError(
            f"calibration: {type(calibration).__name__} is no data set: give images, or (image, group), in a list, a data set or a "
            "DataLoader"
        )
    items: list[object] = []
    for number, each in enumerate(_read(calibration)):
        found = each[0] if isinstance(each, tuple | list) and len(each) == 1 else each
        if isinstance(found, tuple | list) and found and isinstance(found[0], Tensor) and found[0].dim() == 4:
            raise UserError(
                f"calibration: batch {number} has {len(found)} values: whether the second are labels or groups cannot be told. Give "
                "batches of images alone, or a data set of (image, group)"
            )
        items += [*found] if isinstance(found, Tensor) and found.dim() == 4 else [found]
    return cast(Unlabelled, items)  # each is checked where it is read


def _read(calibration: Iterable[object]) -> Iterator[object]:
    """UserError, with the item's number, for whatever is raised on the way."""
    number, stream = 0, iter(calibration)
    while True:
        try:
            item = next(stream)
        except StopIteration:
            return
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"calibration: item {number} cannot be read: {type(error).__name__}: {error}") from error
        yield item
        number += 1
