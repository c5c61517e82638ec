"""Augmentation of training images (torchvision v2), and the normalization of all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["none", "flips", "standard", "autoaugment"]


@dataclass(frozen=True)
class Normalization:
    """uint8 [B, 3, H, W] -> (x / 255 - mean) / std in float32; float images pass unchanged."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_last: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> float [B, 3, H, W], in the memory format that `channels_last` asks for."""
        if images.dtype == torch.uint8:
            mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1) * 255
            std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1) * 255
            images = (images.float() - mean) / std
        return images.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def augmentation(name: Augmentation) -> Callable[[Tensor], Tensor]:
    """A random transform of one uint8 image [3, H, W] -> [3, H, W].

    flips: horizontal and vertical; standard: flips, one affine transform (rotation by up to 15 degrees, shift by up to
    5 %, scale 0.9-1.15), brightness and contrast by up to 20 %; autoaugment: flips, rotation and AutoAugment, as in the
    FairQuant paper.
    """
    from torchvision.transforms import v2

    if name == "none":
        return lambda image: image
    flips: list[Callable[[Tensor], Tensor]] = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    if name == "flips":
        steps = flips
    elif name == "standard":
        bilinear = v2.InterpolationMode.BILINEAR
        affine = v2.RandomAffine(15, translate=(0.05, 0.05), scale=(0.9, 1.15), interpolation=bilinear)
        steps = [*flips, affine, v2.ColorJitter(brightness=0.2, contrast=0.2)]
    else:
        steps = [*flips, v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR), v2.AutoAugment()]
    composed: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return composed
