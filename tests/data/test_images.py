"""Image files decoded once, in a cache that knows what does not decode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fairquant_datasets.isic2019 import Isic2019
from helpers.data_sets import context, isic, picture

from fairquant.data.images import default_cache
from fairquant.errors import UserError


def test_images_are_decoded_once_and_a_changed_image_again(tmp_path, monkeypatch):
    root = isic(tmp_path / "isic")
    first = Isic2019(root=str(root)).load(context(tmp_path))
    import fairquant.data.images as images

    calls = []
    real = images.read_image
    monkeypatch.setattr(images, "read_image", lambda file, *how: calls.append(file) or real(file, *how))
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
    assert list(listed[0]["failures"]) == ["1"]


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("FAIRQUANT_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("FAIRQUANT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache() == Path("/caches/fairquant")
