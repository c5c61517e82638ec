"""The cache of decoded images: filled once, shared by processes, and done without where it cannot be had."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairquant.data.cache_files import Description, Kind, StoredImages, Writer, describe, one_at_a_time, open_stored
from fairquant.data.reading import ReadImage, why_not
from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Pixels

Put = Callable[[int, NDArray[np.uint8]], None]


class Source(Protocol):
    """Images that can be decoded: shape (N, S, S, 3); key: a digest of all that their pixels depend on; read(row) raises UserError,
    or anything else for an image that does not decode."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def key(self) -> str: ...
    def read(self, row: int) -> ReadImage: ...


@dataclass(frozen=True)
class _Decode:
    """Pixels [S, S, 3] of one image, anew."""

    source: Source

    def __call__(self, row: int) -> NDArray[np.uint8]:
        return self.source.read(row).pixels


def cached(source: Source, context: DataContext) -> tuple[Pixels, Description, tuple[str, ...]]:
    """The images out of the cache, which is filled where need be, and what was found when they were decoded; in memory, with a
    note, where there can be no cache."""
    stored = context.cache / f"images-{source.key}.bin"
    if (found := _open(source, context)) is not None:
        return found, found.description, ()
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(stored):
            if (found := _open(source, context)) is None:
                _fill(source, context)
                found = _open(source, context)
        if found is not None:
            return found, found.description, ()
        reason = "another process changes it"
    except OSError as error:
        reason = error.strerror or str(error)
    array = np.zeros(source.shape, np.uint8)
    description = _decode_all(source, context, array.__setitem__)
    return array, description, (f"no image cache in {context.cache} ({reason}): decoded images are kept in memory",)


def _open(source: Source, context: DataContext) -> StoredImages | None:
    return open_stored(context.cache / f"images-{source.key}.bin", source.key, source.shape, _Decode(source))


def _fill(source: Source, context: DataContext) -> None:
    """Decode all images into a new cache file. OSError where it cannot be written."""
    _, height, width, channels = source.shape
    writer = Writer(context.cache / f"images-{source.key}.bin", height * width * channels)
    try:
        writer.finish(_decode_all(source, context, writer.write))
    except BaseException:
        writer.abandon()
        raise


def _decode_all(source: Source, context: DataContext, put: Put) -> Description:
    """Decode every image and put its pixels [S, S, 3] at its row. Raises what `put` raises, and UserError."""
    count = source.shape[0]
    advance: Callable[[int], None] = (
        context.progress("decoding images", count) if context.progress else lambda number: None
    )
    checksums = [0] * count
    failures: dict[int, str] = {}
    kinds: dict[int, Kind] = {}

    def decode_row(row: int) -> None:
        try:
            read = source.read(row)
        except UserError:
            raise
        except Exception as error:
            failures[row] = why_not(error)
            read = ReadImage(pixels=np.zeros(source.shape[1:], np.uint8))
        put(row, read.pixels)
        checksums[row] = zlib.crc32(read.pixels.tobytes())
        if read.kind:
            kinds[row] = (read.kind, read.high, read.largest)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for _ in pool.map(decode_row, range(count)):
                advance(1)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return describe(source.key, source.shape, checksums, failures, kinds)
