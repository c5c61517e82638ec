"""Image files decoded once, in a cache that knows what does not decode."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from fairquant_datasets.isic2019 import Isic2019
from helpers.data_sets import context, isic, picture
from PIL import Image

from fairquant.data.images import ImageSet, content_digests, default_cache
from fairquant.errors import UserError


def test_images_are_decoded_once_and_a_changed_image_again(tmp_path, monkeypatch):
    root = isic(tmp_path / "isic")
    first = Isic2019(root=str(root)).load(context(tmp_path))
    import fairquant.data.images as images

    calls = []
    real = images.decode_image
    monkeypatch.setattr(
        images, "decode_image", lambda content, file, *how: calls.append(file) or real(content, file, *how)
    )
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


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("FAIRQUANT_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("FAIRQUANT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache() == Path("/caches/fairquant")


def test_without_a_home_the_cache_lies_with_the_systems_temporary_files(monkeypatch):
    for name in ("FAIRQUANT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert default_cache().parent == Path(tempfile.gettempdir())


def test_an_image_changed_with_its_times_kept_is_another_image(tmp_path):
    root = isic(tmp_path / "isic")
    file = root / "ISIC_2019_Training_Input" / "ISIC_0000001.jpg"
    before = content_digests([file])
    times, content = file.stat(), bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_digests([file]) != before


def test_files_that_cannot_be_read_are_all_named(tmp_path):
    with pytest.raises(UserError) as caught:
        content_digests([tmp_path / "a.png", tmp_path, tmp_path / "b.png"])
    assert all(
        name in str(caught.value)
        for name in ("a.png: cannot be read: No such file", "b.png", "is a folder, a device or a pipe")
    )


def test_a_file_that_changes_while_it_is_read_stops_the_command(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    images = ImageSet(files=(tmp_path / "a.png",), digests=("0" * 64,), size=16, intensity="full")
    with pytest.raises(UserError, match="its content has changed since this command began"):
        images.read(0)
