"""The image cache: what is damaged, gone or cannot be written changes no pixel and stops no run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import warnings
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.data import cache_files
from fairquant.data.cache_files import TAIL, StoredImages, open_stored
from fairquant.data.image_cache import cached
from fairquant.data.reading import ReadImage
from fairquant.roles import DataContext

SIZE, COUNT, BAD = 16, 5, 3


@dataclass(frozen=True)
class Drawn:
    """Images of noise, of which one does not decode."""

    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return COUNT, SIZE, SIZE, 3

    @property
    def key(self) -> str:
        return f"drawn{self.seed}"

    def read(self, row: int) -> ReadImage:
        if row == BAD:
            raise ValueError("no image")
        pixels = np.random.default_rng([self.seed, row]).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        return ReadImage(pixels=pixels, kind="16-bit" if row == 1 else "")


EXPECTED = np.stack(
    [np.zeros((SIZE, SIZE, 3), np.uint8) if row == BAD else Drawn().read(row).pixels for row in range(COUNT)]
)
GOOD = [row for row in range(COUNT) if row != BAD]


def context(folder: Path) -> DataContext:
    return DataContext(0, SIZE, folder)


def pixels(images) -> np.ndarray:
    """Those of the images that decode; nobody asks for the others."""
    return np.stack([images[row] for row in GOOD])


def filled(folder: Path) -> Path:
    """A cache with the images in it."""
    cached(Drawn(), context(folder))
    return folder / "images-drawn0.bin"


def test_what_is_decoded_once_is_read_from_then_on(tmp_path, monkeypatch):
    first, found, notes = cached(Drawn(), context(tmp_path))
    assert not notes
    monkeypatch.setattr(Drawn, "read", lambda self, row: pytest.fail("decoded again"))
    again, same, _ = cached(Drawn(), context(tmp_path))
    assert np.array_equal(pixels(first), EXPECTED[GOOD]) and np.array_equal(pixels(again), EXPECTED[GOOD])
    assert found == same
    assert found.failures == {BAD: "no image"} and found.kinds == {1: ("16-bit", 255.0, 255.0)}


DAMAGES = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "zeros in the pixels": lambda content: bytes(3000) + content[3000:],
    "cut off": lambda content: content[:-7],
    "longer": lambda content: content + b"xx",
    "a pickle": lambda content: pickle.dumps({"a": 1}),
    "json": lambda content: b"{}",
    "a description of none": lambda content: (
        content[: EXPECTED.size] + b"{}" + TAIL.pack(2, hashlib.sha256(b"{}").digest())
    ),
    "a length beyond all memory": lambda content: content[: -TAIL.size] + TAIL.pack(2**63, bytes(32)),
}


@pytest.mark.filterwarnings("ignore:.*is damaged or gone")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_changes_no_pixel_and_is_written_anew(damage, tmp_path):
    file = filled(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    images, found, _ = cached(Drawn(), context(tmp_path))
    assert np.array_equal(pixels(images), EXPECTED[GOOD])
    assert list(found.failures) == [BAD]
    cached(Drawn(), context(tmp_path))
    assert file.read_bytes() == whole


def test_another_sets_file_of_the_same_shape_changes_no_pixel(tmp_path):
    file = filled(tmp_path)
    cached(Drawn(seed=1), context(tmp_path))
    file.write_bytes((tmp_path / "images-drawn1.bin").read_bytes())
    images, _, _ = cached(Drawn(), context(tmp_path))
    assert np.array_equal(pixels(images), EXPECTED[GOOD])


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 4000), value=st.integers(1, 255), length=st.integers(1, 600))
def test_no_damage_of_bytes_changes_a_pixel(place, value, length, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    file = filled(folder)
    content = bytearray(file.read_bytes())
    for at in range(place, min(place + length, len(content))):
        content[at] ^= value
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images, found, _ = cached(Drawn(), context(folder))
        assert np.array_equal(pixels(images), EXPECTED[GOOD])
    assert list(found.failures) == [BAD]


def test_a_file_removed_or_damaged_while_a_run_reads_it_changes_no_pixel(tmp_path):
    images, _, _ = cached(Drawn(), context(tmp_path))
    (tmp_path / "images-drawn0.bin").unlink()
    assert np.array_equal(pixels(images), EXPECTED[GOOD])
    images, _, _ = cached(Drawn(), context(tmp_path))
    with open(tmp_path / "images-drawn0.bin", "r+b") as stream:
        stream.truncate(100)
    with pytest.warns(UserWarning, match="is damaged or gone: its images are decoded anew"):
        assert np.array_equal(images[0], EXPECTED[0])
    assert np.array_equal(pixels(images), EXPECTED[GOOD])
    assert not (tmp_path / "images-drawn0.bin").exists()  # the next run writes it anew


def _row(images: StoredImages, row: int) -> np.ndarray:
    return images[row]


def test_worker_processes_that_are_started_anew_read_the_same(tmp_path):
    images, _, _ = cached(Drawn(), context(tmp_path))
    assert np.array_equal(pickle.loads(pickle.dumps(images))[2], EXPECTED[2])
    with get_context("fork").Pool(2) as pool:  # these share the open file
        rows = pool.starmap(_row, [(images, row) for row in GOOD * 20])
    assert all(np.array_equal(mine, EXPECTED[row]) for mine, row in zip(rows, GOOD * 20, strict=True))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_disk_that_cannot_be_written_keeps_the_images_in_memory_and_says_so(number, tmp_path, monkeypatch):
    def refuse(self, row, pixels):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache_files.Writer, "write", refuse)
    images, found, notes = cached(Drawn(), context(tmp_path))
    assert np.array_equal(pixels(images), EXPECTED[GOOD])
    assert list(found.failures) == [BAD]
    assert "decoded images are kept in memory" in notes[0] and str(tmp_path) in notes[0]
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_a_file_where_the_folder_should_be_is_no_reason_to_stop(tmp_path):
    (tmp_path / "cache").write_text("a file")
    images, _, notes = cached(Drawn(), context(tmp_path / "cache"))
    assert np.array_equal(pixels(images), EXPECTED[GOOD]) and notes


def test_a_file_of_another_shape_is_not_taken(tmp_path):
    file = filled(tmp_path)
    assert open_stored(file, "drawn0", (COUNT, SIZE, SIZE, 1), lambda row: EXPECTED[row]) is None
    assert open_stored(file, "drawn0", (COUNT - 1, SIZE, SIZE, 3), lambda row: EXPECTED[row]) is None


def test_temporary_files_of_killed_processes_are_removed_after_a_day(tmp_path):
    for name, age in (("old", 2 * 86400), ("new", 60)):
        file = tmp_path / f".images-{name}.bin.0.tmp"
        file.write_bytes(b"x")
        stamp = file.stat().st_mtime - age
        os.utime(file, (stamp, stamp))
    filled(tmp_path)
    assert [file.name for file in tmp_path.glob(".*.tmp")] == [".images-new.bin.0.tmp"]


def test_the_same_images_are_the_same_bytes(tmp_path):
    assert filled(tmp_path / "a").read_bytes() == filled(tmp_path / "b").read_bytes()
    text = filled(tmp_path / "a").read_bytes()[EXPECTED.size : -TAIL.size]
    assert json.loads(text)["shape"] == [COUNT, SIZE, SIZE, 3]
