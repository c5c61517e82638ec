"""Decoded images on disk: named by their content, checked row by row when they are read, and never a reason to stop.

A file holds the pixels of a set of images one after the other, then a description in JSON, then that description's SHA-256 and
length. It is read, not mapped into memory: a disk that is full, gone or damaged then gives an error, not a signal. A row that is not
what was written is decoded again from its image.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from fairquant.files import ABANDONED

#: Ends of a file: length of the description in bytes, its SHA-256.
TAIL = struct.Struct("<Q32s")
Kind = tuple[str, float, float]
Decode = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file says about its rows. key: of the images that it was made of; shape: (N, S, S, 3); checksums [N]: CRC-32 of each
    row, 0 for one without an image; failures: row -> why it did not decode; kinds: row -> (kind, value that became white, largest
    value), where a file is special."""

    key: str
    shape: tuple[int, int, int, int]
    checksums: tuple[int, ...]
    failures: dict[int, str]
    kinds: dict[int, Kind]

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.shape[3]


DESCRIPTION = TypeAdapter(Description)


@dataclass(eq=False, kw_only=True)
class StoredImages:
    """uint8 pixels [N, S, S, 3] by row, read from a file when they are asked for. decode(row): the pixels anew, where the file
    is damaged or gone."""

    file: Path
    description: Description
    decode: Decode
    _opened: BinaryIO | None = field(default=None, repr=False)
    _said: bool = field(default=False, repr=False)

    def __len__(self) -> int:
        return self.description.shape[0]

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """Pixels [S, S, 3]. Raises what `decode` raises where neither the cache nor the image can be read."""
        row, size = int(row), self.description.row_bytes
        try:
            content = _read_at(self._stream(), size, row * size)
        except OSError:
            content = b""
        if len(content) == size and zlib.crc32(content) == self.description.checksums[row]:
            return np.frombuffer(content, np.uint8).reshape(self.description.shape[1:])
        self._warn()
        return self.decode(row)

    def _stream(self) -> BinaryIO:
        if self._opened is None:
            self._opened = open(self.file, "rb", buffering=0)  # noqa: SIM115  stays open with the images
        return self._opened

    def _warn(self) -> None:
        """Say it once, and leave the file to no later run."""
        if not self._said:
            self._said = True
            warnings.warn(
                f"{self.file} is damaged or gone: its images are decoded anew, which takes longer", stacklevel=3
            )
            with suppress(OSError):
                self.file.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, for worker processes that are started anew."""
        return {**self.__dict__, "_opened": None}


def open_stored(file: Path, key: str, shape: tuple[int, int, int, int], decode: Decode) -> StoredImages | None:
    """The images in a cache file; None where there is none, or it is damaged, cut off, of another shape or of other images."""
    try:
        stream = open(file, "rb", buffering=0)  # noqa: SIM115  as above
    except OSError:
        return None
    description = _read_description(stream, shape)
    if description is None or description.key != key:
        stream.close()
        return None
    return StoredImages(file=file, description=description, decode=decode, _opened=stream)


def _read_description(stream: BinaryIO, shape: tuple[int, int, int, int]) -> Description | None:
    try:
        size, pixels = os.fstat(stream.fileno()).st_size, shape[0] * shape[1] * shape[2] * shape[3]
        length, digest = TAIL.unpack(_read_at(stream, TAIL.size, max(size - TAIL.size, 0)))
        if size != pixels + length + TAIL.size:
            return None
        text = _read_at(stream, length, pixels)
        if hashlib.sha256(text).digest() != digest:
            return None
        description = DESCRIPTION.validate_json(text)
    except (OSError, struct.error, ValidationError, OverflowError, MemoryError):
        return None
    return description if description.shape == shape and len(description.checksums) == shape[0] else None


def _read_at(stream: BinaryIO, size: int, offset: int) -> bytes:
    """Without moving the stream's position, which threads and forked processes share."""
    if hasattr(os, "pread"):
        return os.pread(stream.fileno(), size, offset)
    with open(stream.name, "rb") as own:  # Windows
        own.seek(offset)
        return own.read(size)


class Writer:
    """Writes rows in any order to a temporary file, and gives it its name when all is there. Raises OSError where the disk is
    full or may not be written to; the temporary file is then removed."""

    def __init__(self, file: Path, row_bytes: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(file.parent)
        self.file, self.row_bytes = file, row_bytes
        self.temporary = file.with_name(f".{file.name}.{uuid4().hex}.tmp")
        self.stream, self.lock = open(self.temporary, "wb"), threading.Lock()  # noqa: SIM115  until finish

    def write(self, row: int, pixels: NDArray[np.uint8]) -> None:
        self._put(pixels.tobytes(), row * self.row_bytes)

    def finish(self, description: Description) -> None:
        text = DESCRIPTION.dump_json(description)
        self._put(text + TAIL.pack(len(text), hashlib.sha256(text).digest()), description.shape[0] * self.row_bytes)
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self.temporary.replace(self.file)

    def abandon(self) -> None:
        with suppress(OSError):
            self.stream.close()
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    def _put(self, content: bytes, offset: int) -> None:
        with self.lock:
            self.stream.seek(offset)
            self.stream.write(content)


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Processes that want the same file wait for the first to make it; where no lock can be had (a disk that is read-only, or does
    not know locks) each makes its own."""
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _remove_abandoned(folder: Path) -> None:
    """Temporary files of processes that were killed."""
    for file in folder.glob(".images-*.tmp"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()


def describe(
    key: str, shape: tuple[int, int, int, int], checksums: list[int], failures: dict[int, str], kinds: dict[int, Kind]
) -> Description:
    """A description whose rows are in order, so that equal images give equal files."""
    return Description(
        key=key, shape=shape, checksums=tuple(checksums), failures=dict(sorted(failures.items())), kinds=dict(sorted(kinds.items()))
    )  # fmt: skip
