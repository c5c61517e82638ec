"""Image files to one array, decoded and resized once, in a cache keyed by the files' content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.roles.dataset import DataContext, IntArray


@dataclass(frozen=True, eq=False)
class Decoded:
    """array: uint8 [N, S, S, 3], one row per file, mapped from disk; valid_rows [M]: the rows whose files decoded;
    failures: file -> reason, for the others; digest: of the content of all files and the image size."""

    array: NDArray[np.uint8]
    valid_rows: IntArray
    failures: dict[str, str]
    digest: str


def decode_images(files: Sequence[Path], context: DataContext, max_bad: int) -> Decoded:
    """Decode all files and resize them to squares of context.image_size pixels (aspect ratio not preserved, antialiased),
    or read them from the cache.

    Files that do not decode are skipped and listed in `failures`; UserError where there are more than `max_bad` of them.
    """
    context.cache.mkdir(parents=True, exist_ok=True)
    digests = _content_digests(files, context)
    total = hashlib.sha256(f"{context.image_size}|squash|1|".encode())
    for digest in digests:
        total.update(digest.encode())
    key = total.hexdigest()[:32]
    stored, sidecar = context.cache / f"images-{key}.npy", context.cache / f"images-{key}.json"
    if not (stored.exists() and sidecar.exists()):
        _decode_all(files, stored, sidecar, context)
    failures: dict[str, str] = json.loads(sidecar.read_text())
    if len(failures) > max_bad:
        shown = [f"{name}: {reason}" for name, reason in list(failures.items())[:10]]
        raise UserError(
            [
                f"dataset.max_bad_images: {len(failures)} image(s) do not decode, at most {max_bad} are allowed. "
                "Repair or remove them, or raise dataset.max_bad_images",
                *shown,
            ]
        )
    names = [str(file) for file in files]
    valid_rows = np.array([row for row, name in enumerate(names) if name not in failures], np.int64)
    return Decoded(np.load(stored, mmap_mode="r"), valid_rows, failures, key)


def _content_digests(files: Sequence[Path], context: DataContext) -> list[str]:
    """SHA-256 of every file; a file whose size and modification time have not changed is not read again."""
    folder = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:16] if files else "none"
    index_file = context.cache / f"digests-{folder}.json"
    try:
        known: dict[str, list[int | str]] = json.loads(index_file.read_text())  # name -> [size, mtime in ns, digest]
    except (OSError, ValueError):
        known = {}
    digests, changed = [], False
    for file in files:
        status = file.stat()
        entry = known.get(file.name)
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()]
            known[file.name], changed = entry, True
        digests.append(str(entry[2]))
    if changed:
        write_atomically(index_file, json.dumps(known).encode())
    return digests


def _decode_all(files: Sequence[Path], stored: Path, sidecar: Path, context: DataContext) -> None:
    """Write the array [N, S, S, 3] to `stored` and the failures to `sidecar`."""
    size = context.image_size
    temporary = stored.with_suffix(f".{os.getpid()}.tmp")
    advance: Callable[[int], None] = (
        context.progress("decoding images", len(files)) if context.progress else lambda count: None
    )
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(files), size, size, 3))
        failures: dict[str, str] = {}

        def decode_row(row: int, array: NDArray[np.uint8] = array) -> None:
            try:
                array[row] = decode(files[row], size)
            except Exception as error:
                failures[str(files[row])] = f"{type(error).__name__}: {error}"

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(decode_row, range(len(files))):
                advance(1)
        array.flush()
        write_atomically(sidecar, json.dumps(dict(sorted(failures.items())), indent=1).encode())
        temporary.replace(stored)
    finally:
        temporary.unlink(missing_ok=True)


def decode(file: Path, size: int) -> NDArray[np.uint8]:
    """One image as uint8 [size, size, 3] RGB, its EXIF rotation applied. Raises what Pillow raises for unreadable files."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def default_cache() -> Path:
    """FAIRQUANT_CACHE, or `fairquant` in the user's cache folder."""
    if configured := os.environ.get("FAIRQUANT_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fairquant"
