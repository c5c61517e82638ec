"""Files appear whole or not at all, and a folder has one owner at a time."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import fairquant.files
from fairquant.errors import RunBusy, UserError
from fairquant.files import absolute_database, check_target, folder_lock, printable, read_bounded, write_atomically


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


@pytest.mark.parametrize("name", ["", "folder", "pipe", "recipe.yaml", "model.onnx/beyond"])
def test_what_an_output_must_not_replace_is_refused_before_any_work(name):
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("recipe.yaml").touch()
    Path("model.onnx").touch()
    with pytest.raises(UserError, match="--out"):
        check_target("--out", Path(name), ".onnx")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    for good in (None, Path("model.onnx"), Path("new.onnx"), Path("other/new"), Path("MODEL.ONNX")):
        check_target("--out", good, ".onnx")


def test_a_pipe_is_neither_read_nor_replaced():
    os.mkfifo("pipe")
    with pytest.raises(OSError, match="a device or a pipe"):
        write_atomically(Path("pipe"), b"text")
    with pytest.raises(OSError, match="a device or a pipe"):
        read_bounded(Path("pipe"), 10)
    with pytest.raises(FileNotFoundError):
        read_bounded(Path("absent"), 10)


def test_a_name_that_would_control_a_terminal_is_escaped():
    assert printable("\x1b[31mred\x07 \u00e9") == "\\x1b[31mred\\x07 \u00e9"
