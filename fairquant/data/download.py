"""Download a data set's files: files already present are kept, failures are reported, and a repeated call resumes."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.roles.dataset import Source

#: Bytes of an unpacked archive, and how many times its own size: images hardly shrink.
MOST_UNPACKED, MOST_RATIO = 500 * 10**9, 100


@dataclass(frozen=True)
class Fetched:
    """Number of files downloaded now, number present before, and the failures (target -> reason)."""

    new: int
    present: int
    failed: dict[str, str]


def fetch(
    sources: Iterable[Source],
    root: Path,
    mirror: str | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Fetched:
    """Download the missing files to `root`. Failures are returned, not raised; UserError where a target lies outside `root`.

    mirror: a base URL or folder that holds the files under their target names. advance(1) is called after each file.
    """
    requested = list(sources)
    outside = [each.target for each in requested if not (root / each.target).resolve().is_relative_to(root.resolve())]
    if outside:
        raise UserError(
            f"{len(outside)} file(s) would be written outside {root}, first {outside[0]!r}: its table is refused"
        )
    missing = [source for source in requested if not _is_present(source, root)]
    failed: dict[str, str] = {}

    def fetch_and_record(source: Source) -> None:
        try:
            _fetch_one(source, root, mirror)
        except (OSError, ValueError, zipfile.BadZipFile, UserError) as error:
            failed[source.target] = f"{type(error).__name__}: {error}"
        advance(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch_and_record, missing))
    return Fetched(len(missing) - len(failed), len(requested) - len(missing), dict(sorted(failed.items())))


def _is_present(source: Source, root: Path) -> bool:
    target = root / source.target
    return target.with_suffix("").is_dir() if source.unpack else target.is_file()


def _fetch_one(source: Source, root: Path, mirror: str | None) -> None:
    target = root / source.target
    if mirror is not None and "://" not in mirror:
        content = (Path(mirror) / source.target).read_bytes()
    else:
        url = source.url if mirror is None else f"{mirror.rstrip('/')}/{source.target}"
        request = urllib.request.Request(url, headers={"User-Agent": "fairquant"})
        with urllib.request.urlopen(request, timeout=60) as response:
            content = response.read()
            expected = response.headers.get("Content-Length")
            if expected is not None and int(expected) != len(content):
                raise OSError(f"received {len(content)} bytes, expected {expected}")
    if target.suffix.lower() in (".jpg", ".jpeg", ".png"):
        _check_image(content)
    write_atomically(target, content)
    if source.unpack:
        _unpack(target, root)


def _check_image(content: bytes) -> None:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.verify()


def _unpack(archive: Path, root: Path) -> None:
    """Unpack under a temporary name, then rename. UserError where a member's path leads outside the folder."""
    temporary = root / f".{archive.stem}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    with zipfile.ZipFile(archive) as bundle:
        unpacked = sum(member.file_size for member in bundle.infolist())
        if unpacked > MOST_UNPACKED or unpacked > MOST_RATIO * max(archive.stat().st_size, 1 << 20):
            raise UserError(
                f"{archive.name}: {unpacked / 1e9:.1f} GB when unpacked is more than images are; the archive is refused"
            )
        for member in bundle.namelist():
            if not (temporary / member).resolve().is_relative_to(temporary.resolve()):
                raise UserError(f"{archive.name}: member {member!r} would leave the folder; the archive is refused")
        bundle.extractall(temporary)
    inner = temporary / archive.stem
    (inner if inner.is_dir() else temporary).replace(archive.with_suffix(""))
    shutil.rmtree(temporary, ignore_errors=True)
    archive.unlink()
