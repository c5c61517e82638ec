"""Image files to one array, decoded and resized once, in a cache keyed by the files' content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.roles.dataset import DataContext, IntArray


@dataclass(frozen=True)
class Decoded:
    """array [N, S, S, 3] uint8, mapped from disk; good: rows of the files that decoded; digest of all content."""

    array: NDArray[np.uint8]
    good: IntArray
    bad: dict[str, str]
    digest: str


def decode_images(files: Sequence[Path], context: DataContext, max_bad: int) -> Decoded:
    """Decode and resize (squashed to a square, antialiased) all files, or find them in the cache.

    A file that does not decode is counted, named and skipped; more than `max_bad` of them stop the run.
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
    bad: dict[str, str] = json.loads(sidecar.read_text())
    if len(bad) > max_bad:
        shown = [f"{name}: {reason}" for name, reason in list(bad.items())[:10]]
        raise UserError(
            [
                f"dataset.max_bad_images: {len(bad)} image(s) do not decode, at most {max_bad} are allowed. "
                "Repair or remove them, or raise dataset.max_bad_images",
                *shown,
            ]
        )
    names = [str(file) for file in files]
    good = np.array([row for row, name in enumerate(names) if name not in bad], np.int64)
    return Decoded(np.load(stored, mmap_mode="r"), good, bad, key)


def _content_digests(files: Sequence[Path], context: DataContext) -> list[str]:
    """sha256 of every file; a file whose size and time are as before is not read again."""
    place = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:16] if files else "none"
    index_file = context.cache / f"digests-{place}.json"
    try:
        known: dict[str, list[Any]] = json.loads(index_file.read_text())
    except (OSError, ValueError):
        known = {}
    digests, fresh = [], False
    for file in files:
        status = file.stat()
        entry = known.get(file.name)
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()]
            known[file.name], fresh = entry, True
        digests.append(str(entry[2]))
    if fresh:
        write_atomically(index_file, json.dumps(known).encode())
    return digests


def _decode_all(files: Sequence[Path], stored: Path, sidecar: Path, context: DataContext) -> None:
    size = context.image_size
    temporary = stored.with_suffix(f".{os.getpid()}.tmp")
    advance: Callable[[int], None] = (
        context.progress("decoding images", len(files)) if context.progress else lambda count: None
    )
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(files), size, size, 3))
        bad: dict[str, str] = {}

        def one(row: int, array: NDArray[np.uint8] = array) -> None:
            try:
                array[row] = decode(files[row], size)
            except Exception as error:
                bad[str(files[row])] = f"{type(error).__name__}: {error}"

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(one, range(len(files))):
                advance(1)
        array.flush()
        write_atomically(sidecar, json.dumps(dict(sorted(bad.items())), indent=1).encode())
        temporary.replace(stored)
    finally:
        temporary.unlink(missing_ok=True)


def decode(file: Path, size: int) -> NDArray[np.uint8]:
    """One image [S, S, 3], its EXIF rotation applied."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def default_cache() -> Path:
    """FAIRQUANT_CACHE, or the user's cache folder."""
    given = os.environ.get("FAIRQUANT_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fairquant"
