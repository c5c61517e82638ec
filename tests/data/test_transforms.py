"""Normalization of all images, and augmentation of training images."""

from __future__ import annotations

import pytest
import torch

from fairquant.data.transforms import Normalization, augmentation

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def image(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_bytes_are_normalised_by_channel():
    images = torch.stack([image(0), image(1)])
    expected = (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(Normalization(MEAN, STD)(images), expected)


def test_float_images_are_taken_as_they_are():
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(Normalization(MEAN, STD)(images), images)


def test_channels_last_changes_the_layout_in_memory_only():
    images = torch.stack([image()])
    last = Normalization(MEAN, STD, channels_last=True)(images)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, Normalization(MEAN, STD)(images))


@pytest.mark.parametrize("name", ["flips", "standard", "autoaugment"])
def test_augmentation_keeps_shape_and_type_changes_images_and_follows_the_seed(name):
    augment = augmentation(name)

    def augmented(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augment(image())

    results = [augmented(seed) for seed in range(8)]
    assert all(result.shape == (3, 16, 16) and result.dtype == torch.uint8 for result in results)
    assert any(not torch.equal(result, image()) for result in results)
    assert torch.equal(results[5], augmented(5))


def test_flips_only_mirror():
    augment, mirrored = augmentation("flips"), [image().flip(axes) for axes in ((), (1,), (2,), (1, 2))]
    for seed in range(12):
        torch.manual_seed(seed)
        flipped = augment(image())
        assert any(torch.equal(flipped, each) for each in mirrored)


def test_none_changes_nothing():
    assert torch.equal(augmentation("none")(image()), image())
