"""Files appear whole or not at all, and a folder has one owner at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import fairquant.files
from fairquant.errors import RunBusy
from fairquant.files import absolute_database, folder_lock, write_atomically


def test_a_file_is_written_with_the_folders_it_needs():
    write_atomically(Path("a/b/c.txt"), b"text")
    assert Path("a/b/c.txt").read_bytes() == b"text"
    assert [file.name for file in Path("a/b").iterdir()] == ["c.txt"]


def test_an_error_keeps_the_old_file_and_leaves_no_other(monkeypatch):
    write_atomically(Path("c.txt"), b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fairquant.files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(Path("c.txt"), b"new")
    assert Path("c.txt").read_bytes() == b"old"
    assert [file.name for file in Path().iterdir()] == ["c.txt"]


def test_a_folder_that_is_held_is_refused_until_it_is_released():
    held, release = threading.Event(), threading.Event()

    def hold():
        with folder_lock(Path("run"), blocking=True):
            held.set()
            release.wait(10)

    owner = threading.Thread(target=hold)
    owner.start()
    assert held.wait(10)
    with (
        pytest.raises(RunBusy, match="run: another process is working on this run"),
        folder_lock(Path("run"), blocking=False),
    ):
        pass
    release.set()
    owner.join()
    with folder_lock(Path("run"), blocking=False):
        assert Path("run").is_dir()


@pytest.mark.parametrize(
    "address", ["postgresql://host/name", "sqlite:////data/runs.db", "sqlite:///:memory:", "http://host"]
)
def test_an_address_that_does_not_depend_on_the_folder_is_kept(address):
    assert absolute_database(address) == address


def test_a_database_beside_the_caller_is_named_in_full(tmp_path):
    assert absolute_database("sqlite:///runs.db") == f"sqlite:///{tmp_path}/runs.db"
