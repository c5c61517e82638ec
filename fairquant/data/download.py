"""Fetch a data set's files: what is there stays, what fails is named, and a second call goes on."""

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


@dataclass(frozen=True)
class Source:
    """One file: where it is fetched from, and where it goes under the data set's root. A zip is unpacked beside it."""

    url: str
    target: str
    unpack: bool = False


@dataclass(frozen=True)
class Fetched:
    """How many files came, were there before, and failed (target -> reason)."""

    new: int
    present: int
    failed: dict[str, str]


def fetch(
    sources: Iterable[Source],
    root: Path,
    mirror: str | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Fetched:
    """Download what is missing. mirror: a base URL or folder that holds the files under their target names."""
    wanted = list(sources)
    missing = [source for source in wanted if not _there(source, root)]
    failed: dict[str, str] = {}

    def one(source: Source) -> None:
        try:
            _fetch_one(source, root, mirror)
        except (OSError, ValueError, zipfile.BadZipFile, UserError) as error:
            failed[source.target] = f"{type(error).__name__}: {error}"
        advance(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, missing))
    return Fetched(len(missing) - len(failed), len(wanted) - len(missing), dict(sorted(failed.items())))


def _there(source: Source, root: Path) -> bool:
    target = root / source.target
    return target.with_suffix("").is_dir() if source.unpack else target.is_file()


def _fetch_one(source: Source, root: Path, mirror: str | None) -> None:
    target = root / source.target
    if mirror is not None and "://" not in mirror:
        content = (Path(mirror) / source.target).read_bytes()
    else:
        url = source.url if mirror is None else f"{mirror.rstrip('/')}/{source.target}"
        request = urllib.request.Request(url, headers={"User-Agent": "fairquant"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            promised = answer.headers.get("Content-Length")
            if promised is not None and int(promised) != len(content):
                raise OSError(f"{len(content)} bytes came, {promised} were promised")
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
    """Unpack under a temporary name, then rename; a member that would leave the folder is refused."""
    temporary = root / f".{archive.stem}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.namelist():
            if not (temporary / member).resolve().is_relative_to(temporary.resolve()):
                raise UserError(f"{archive.name}: member {member!r} would leave the folder; the archive is refused")
        bundle.extractall(temporary)
    inner = temporary / archive.stem
    (inner if inner.is_dir() else temporary).replace(archive.with_suffix(""))
    shutil.rmtree(temporary, ignore_errors=True)
    archive.unlink()
