"""Atomic file writes, and locks of folders."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from fairquant.errors import RunBusy, UserError

SCRATCH = "fairquant-scratch-"
#: Seconds after which a temporary file or folder belongs to no process any more.
ABANDONED = 24 * 3600.0


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, flush to disk, rename. On any error the old file stays; a device is not replaced."""
    check_regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # that of the temporary file, or none, says nothing to a user
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_target(option: str, path: Path | None, ending: str) -> None:
    """UserError where a command must not write its output to a path (None: none is wanted), before it does any work: a folder, a
    device, a place that does not take files, and an existing file of another kind, such as the command's own input."""
    if path is None:
        return
    parent = next(each for each in path.absolute().parents if each.exists())
    if not path.name:
        raise UserError(f"{option} {str(path)!r}: names no file. Give one that ends in {ending}")
    if path.exists() and not path.is_file():
        raise UserError(
            f"{option} {path}: is {'a folder' if path.is_dir() else 'no regular file'}. Name a file that ends in {ending}"
        )
    if path.exists() and path.suffix.lower() != ending:
        raise UserError(f"{option} {path}: exists, and would be replaced. Only a file that ends in {ending} is")
    if not parent.is_dir():
        raise UserError(f"{option} {path}: {parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: {parent}: permission denied")


def check_regular(path: Path) -> None:
    """OSError for a folder, a device or a pipe, which may never end. What does not exist is found by opening it."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is a folder, a device or a pipe", str(path))


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file. Raises OSError, and UserError for a larger file."""
    check_regular(path)
    with open(path, "rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path}: is larger than {most / 1e6:.0f} MB: it cannot be what is expected here")
    return content


def plain_cell(value: object) -> object:
    """A value for a csv file: a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def printable(text: str) -> str:
    """A name from a file as a terminal may show it: characters that would control the terminal are written as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def remove_temporary(folder: Path) -> None:
    """What writes that were killed have left in a folder that this process holds."""
    for file in folder.glob(".*.tmp"):
        with suppress(OSError):
            file.unlink()


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder; those that killed processes have left a day ago are removed."""
    place = Path(tempfile.gettempdir())
    for folder in place.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as name:
        yield name


def absolute_database(address: str) -> str:
    """sqlite:///runs.db -> sqlite:////here/runs.db; any other address as it is.

    Libraries keep an open database by its address: after a change of folder the same address would name the old file.
    """
    prefix = "sqlite:///"
    name = address.removeprefix(prefix)
    return prefix + os.path.abspath(name) if address.startswith(prefix) and not name.startswith(":") else address


@contextmanager
def folder_lock(folder: Path, blocking: bool) -> Iterator[None]:
    """Hold `folder` for this process; the lock ends with the process. Raises RunBusy where it is held and not blocking."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=blocking)
    except Timeout as error:
        raise RunBusy(f"{folder}: another process is working on this run. Wait for it, or stop it") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder at this moment."""
    try:
        with folder_lock(folder, blocking=False):
            return False
    except RunBusy:
        return True
