"""Image files to one array, decoded and resized once, in a cache keyed by the files' content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairquant.data.reading import read_image
from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.roles.dataset import DataContext, IntArray, Intensity


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """array: uint8 [N, S, S, 3], one row per file, mapped from disk; valid_rows [M]: the rows whose files decoded;
    failures: file -> reason, for the others; digests [N]: SHA-256 of each file; digest: of the content of all files, the image
    size and the intensity; notes: which kinds of files were read in a way that a user should know about."""

    array: NDArray[np.uint8]
    valid_rows: IntArray
    failures: dict[str, str]
    digests: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


def decode_images(files: Sequence[Path], context: DataContext, max_bad: int, intensity: Intensity = "full") -> Decoded:
    """Decode all files and resize them to squares of context.image_size pixels (aspect ratio not preserved, antialiased),
    or read them from the cache.

    Files that do not decode are skipped and listed in `failures`; UserError where there are more than `max_bad` of them.
    """
    context.cache.mkdir(parents=True, exist_ok=True)
    digests = _content_digests(files, context)
    total = hashlib.sha256(f"{context.image_size}|squash|2|{intensity}".encode())
    for digest in digests:
        total.update(digest.encode())
    key = total.hexdigest()[:32]
    stored, sidecar = context.cache / f"images-{key}.npy", context.cache / f"images-{key}.json"
    if not (stored.exists() and sidecar.exists()):
        _decode_all(files, stored, sidecar, context, intensity)
    found = json.loads(sidecar.read_text())
    failures: dict[str, str] = {str(files[int(row)]): reason for row, reason in found["failures"].items()}
    if len(failures) > max_bad:
        shown = [f"{name}: {reason}" for name, reason in list(failures.items())[:10]]
        raise UserError(
            [
                f"dataset.max_bad_images: {len(failures)} image(s) do not decode, at most {max_bad} are allowed. "
                "Repair or remove them, or raise dataset.max_bad_images",
                *shown,
            ]
        )
    valid = np.array([row for row in range(len(files)) if str(row) not in found["failures"]], np.int64)
    return Decoded(
        array=np.load(stored, mmap_mode="r"), valid_rows=valid, failures=failures, digests=tuple(digests), digest=key,
        notes=tuple(_notes(found["kinds"], files, intensity)),
    )  # fmt: skip


def _content_digests(files: Sequence[Path], context: DataContext) -> list[str]:
    """SHA-256 of every file; a file whose size and times have not changed is not read again."""
    places = [str(file.absolute()) for file in files]
    folder = hashlib.sha256("|".join(sorted({str(Path(place).parent) for place in places})).encode()).hexdigest()[:16]
    index_file = context.cache / f"digests-{folder}.json"
    try:
        known: dict[str, list[int | str]] = json.loads(index_file.read_text())  # path -> [size, mtime, ctime, digest]
    except (OSError, ValueError):
        known = {}
    digests, changed = [], False
    for file, place in zip(files, places, strict=True):
        status = file.stat()
        seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(place)
        if entry is None or entry[:3] != seen:
            with open(file, "rb") as stream:
                entry = [*seen, hashlib.file_digest(stream, "sha256").hexdigest()]
            known[place], changed = entry, True
        digests.append(str(entry[3]))
    if changed:
        write_atomically(index_file, json.dumps(known).encode())
    return digests


def _decode_all(files: Sequence[Path], stored: Path, sidecar: Path, context: DataContext, intensity: Intensity) -> None:
    """Write the array [N, S, S, 3] to `stored`; to `sidecar` which rows failed and why, and what is special about others."""
    size = context.image_size
    temporary = stored.with_suffix(f".{os.getpid()}.tmp")
    advance: Callable[[int], None] = (
        context.progress("decoding images", len(files)) if context.progress else lambda count: None
    )
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(files), size, size, 3))
        failures: dict[int, str] = {}
        kinds: dict[int, tuple[str, float, float]] = {}

        def decode_row(row: int, array: NDArray[np.uint8] = array) -> None:
            try:
                read = read_image(files[row], size, intensity)
            except UserError:
                raise
            except Exception as error:
                failures[row] = f"{type(error).__name__}: {error}"
            else:
                array[row] = read.pixels
                if read.kind:
                    kinds[row] = (read.kind, read.high, read.largest)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(decode_row, range(len(files))):
                advance(1)
        array.flush()
        found = {"failures": dict(sorted(failures.items())), "kinds": dict(sorted(kinds.items()))}
        write_atomically(sidecar, json.dumps(found, indent=1).encode())
        temporary.replace(stored)
    finally:
        temporary.unlink(missing_ok=True)


def _notes(kinds: dict[str, tuple[str, float, float]], files: Sequence[Path], intensity: Intensity) -> Iterator[str]:
    """What a user should know: kinds, row -> (kind, value that became white, largest value)."""
    for kind in sorted({each[0] for each in kinds.values()}):
        rows = [row for row, each in kinds.items() if each[0] == kind]
        about = f"{len(rows)} {kind} image(s), such as {files[int(rows[0])].name}"
        if kind == "transparent":
            yield f"{about}: shown on black"
        elif kind == "16-bit colour":
            yield f"{about}: read with the upper 8 bits of each channel"
        else:
            yield f"{about}: read with intensity {_shown(intensity)}"
        dark = [kinds[row] for row in rows if kinds[row][2] < kinds[row][1] / 4]
        if kind in ("16-bit", "DICOM") and intensity == "full" and dark:
            white, largest = max(each[1] for each in dark), max(each[2] for each in dark)
            yield (
                f"the largest value in {len(dark)} {kind} image(s) is {largest:.0f} of {white:.0f}: they are read as nearly "
                f"black. Set dataset.intensity to [0, {largest:.0f}] or to percentile"
            )


def _shown(intensity: Intensity) -> str:
    return intensity if isinstance(intensity, str) else f"[{intensity[0]:g}, {intensity[1]:g}]"


def default_cache() -> Path:
    """FAIRQUANT_CACHE, or `fairquant` in the user's cache folder."""
    if configured := os.environ.get("FAIRQUANT_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fairquant"
