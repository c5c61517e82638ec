"""Image files decoded once, in a cache that knows what does not decode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fairquant_datasets.isic2019 import Isic2019
from helpers.data_sets import context, isic, picture
from PIL import Image

from fairquant.data.images import decode, default_cache
from fairquant.errors import UserError


def test_images_are_decoded_once_and_a_changed_image_again(tmp_path, monkeypatch):
    root = isic(tmp_path / "isic")
    first = Isic2019(root=str(root)).load(context(tmp_path))
    import fairquant.data.images as images

    calls = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda file, size: calls.append(file) or real(file, size))
    again = Isic2019(root=str(root)).load(context(tmp_path))
    assert not calls
    assert again.fingerprint == first.fingerprint
    picture(root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg", 999)
    changed = Isic2019(root=str(root)).load(context(tmp_path))
    assert calls
    assert changed.fingerprint != first.fingerprint


def test_broken_images_are_counted_named_and_limited(tmp_path):
    root = isic(tmp_path / "isic")
    for number in (1, 2):
        (root / "ISIC_2019_Training_Input" / f"ISIC_{number:07d}.jpg").write_bytes(b"no image")
    splits = Isic2019(root=str(root)).load(context(tmp_path))
    assert splits.counts["undecodable"] == 2
    assert any("ISIC_0000001.jpg" in note and "do not decode" in note for note in splits.notes)
    assert "ISIC_0000001" not in splits.train.ids + splits.validation.ids + splits.test.ids
    with pytest.raises(UserError, match=r"2 image\(s\) do not decode, at most 1 are allowed") as caught:
        Isic2019(root=str(root), max_bad_images=1).load(context(tmp_path))
    assert "ISIC_0000002.jpg" in str(caught.value)


def test_the_cache_lists_what_it_could_not_decode(tmp_path):
    root = isic(tmp_path / "isic")
    (root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg").write_bytes(b"x")
    Isic2019(root=str(root)).load(context(tmp_path))
    listed = [json.loads(file.read_text()) for file in (tmp_path / "cache").glob("images-*.json")]
    assert len(listed) == 1
    assert len(listed[0]) == 1


def test_an_image_becomes_a_square_with_its_rotation_applied(tmp_path):
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[:20] = 255  # white above black
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.jpg", exif=exif)
    square = decode(tmp_path / "turned.jpg", 16)
    assert square.shape == (16, 16, 3)
    assert square[:6].max() < 30
    assert square[-6:].min() > 225


def test_grey_and_transparent_images_become_rgb(tmp_path):
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "grey.png")
    assert (decode(tmp_path / "grey.png", 4) == 77).all()
    Image.fromarray(np.full((8, 8, 4), 99, np.uint8)).save(tmp_path / "rgba.png")
    assert decode(tmp_path / "rgba.png", 4).shape == (4, 4, 3)


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("FAIRQUANT_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("FAIRQUANT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache() == Path("/caches/fairquant")
