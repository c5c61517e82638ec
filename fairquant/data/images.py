"""Image files to pixels, decoded and resized once, in a cache keyed by the files' content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairquant.data.cache_files import Kind
from fairquant.data.image_cache import cached
from fairquant.data.reading import ReadImage, decode_image, is_nearly_black
from fairquant.errors import UserError
from fairquant.files import check_regular
from fairquant.roles.dataset import DataContext, IntArray, Intensity, Pixels


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """array: uint8 [N, S, S, 3], one row per file, read from the cache or in memory; valid_rows [M]: the rows whose files decoded;
    failures: file -> reason, for the others; digests [N]: SHA-256 of each file; digest: of the content of all files, the image
    size and the intensity; notes: which kinds of files were read in a way that a user should know about, and a cache that cannot
    be used."""

    array: Pixels
    valid_rows: IntArray
    failures: dict[str, str]
    digests: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Image files with the SHA-256 of each [N], and how they are read."""

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    size: int
    intensity: Intensity

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files), self.size, self.size, 3

    @property
    def key(self) -> str:
        """Of the content of all files, the image size and the intensity."""
        total = hashlib.sha256(f"{self.size}|squash|2|{self.intensity}".encode())
        for digest in self.digests:
            total.update(digest.encode())
        return total.hexdigest()[:32]

    def read(self, row: int) -> ReadImage:
        """One image. UserError where the file cannot be read, or has another content by now."""
        file = self.files[row]
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != self.digests[row]:
            raise UserError(f"{file}: its content has changed since this command began. Give the command again")
        return decode_image(content, file, self.size, self.intensity)


def decode_images(files: Sequence[Path], context: DataContext, max_bad: int, intensity: Intensity = "full") -> Decoded:
    """Decode all files and resize them to squares of context.image_size pixels (aspect ratio not preserved, antialiased),
    or read them from the cache.

    Files that do not decode are skipped and listed in `failures`; UserError where there are more than `max_bad` of them.
    """
    images = ImageSet(
        files=tuple(files), digests=tuple(content_digests(files)), size=context.image_size, intensity=intensity
    )
    array, description, note = cached(images, context)
    failures = {str(files[row]): reason for row, reason in description.failures.items()}
    if len(failures) > max_bad:
        shown = [f"{name}: {reason}" for name, reason in list(failures.items())[:10]]
        raise UserError(
            [
                f"dataset.max_bad_images: {len(failures)} image(s) do not decode, at most {max_bad} are allowed. "
                "Repair or remove them, or raise dataset.max_bad_images",
                *shown,
            ]
        )
    valid = np.array([row for row in range(len(files)) if row not in description.failures], np.int64)
    return Decoded(
        array=array, valid_rows=valid, failures=failures, digests=images.digests, digest=images.key,
        notes=(*_notes(description.kinds, files, intensity), *note),
    )  # fmt: skip


def content_digests(files: Sequence[Path]) -> list[str]:
    """SHA-256 of every file [N]. All of it is read each time: sizes and times say nothing about the content. UserError that
    names files which cannot be read."""

    def digest(file: Path) -> str | OSError:
        try:
            check_regular(file)
            with open(file, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(digest, files))
    bad = [(file, each) for file, each in zip(files, found, strict=True) if isinstance(each, OSError)]
    if bad:
        listed = [f"{file}: cannot be read: {error.strerror or error}" for file, error in bad[:10]]
        raise UserError([*listed, *([f"... and {len(bad) - 10} more"] if len(bad) > 10 else [])])
    return [each for each in found if isinstance(each, str)]


def _notes(kinds: Mapping[int, Kind], files: Sequence[Path], intensity: Intensity) -> Iterator[str]:
    """What a user should know: kinds, row -> (kind, value that became white, largest value)."""
    for kind in sorted({each[0] for each in kinds.values()}):
        rows = [row for row, each in kinds.items() if each[0] == kind]
        about = f"{len(rows)} {kind} image(s), such as {files[rows[0]].name}"
        if kind == "transparent":
            yield f"{about}: shown on black"
        elif kind == "16-bit colour":
            yield f"{about}: read with the upper 8 bits of each channel"
        else:
            yield f"{about}: read with intensity {_shown(intensity)}"
        dark = [kinds[row] for row in rows if is_nearly_black(*kinds[row], intensity)]
        if dark:
            white, largest = max(each[1] for each in dark), max(kinds[row][2] for row in rows)
            most = max(each[2] for each in dark)
            yield (
                f"the largest value in {len(dark)} {kind} image(s) is {most:.0f} of {white:.0f}: they are read as nearly black. Set "
                f"dataset.intensity to percentile, or to [0, {largest:.0f}], the largest value of all {kind} images"
            )


def _shown(intensity: Intensity) -> str:
    return intensity if isinstance(intensity, str) else f"[{intensity[0]:g}, {intensity[1]:g}]"


def default_cache() -> Path:
    """FAIRQUANT_CACHE, or `fairquant` in the user's cache folder."""
    if configured := os.environ.get("FAIRQUANT_CACHE"):
        return Path(configured)
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured) / "fairquant"
    try:
        return Path.home() / ".cache" / "fairquant"
    except RuntimeError:  # a user without a home and without an entry in the system's table of users
        return Path(tempfile.gettempdir()) / f"fairquant-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
