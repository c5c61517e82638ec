"""From the names in a table to image files: without ending, in sub-folders, in another case, with other separators."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairquant.errors import UserError

#: Endings of image files, for names without one.
ENDINGS = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom", ".ppm", ".pgm", ".jp2",
)  # fmt: skip


@dataclass(frozen=True)
class ImageFiles:
    """The files of a folder and of its sub-folders by name; listed once, when the first name is not there as it is written."""

    folder: Path
    _listed: dict[str, list[Path]] = field(default_factory=dict)

    def find(self, name: str) -> Path:
        """The file of a name: relative to the folder or absolute. The path as it is written where there is none. Raises UserError
        where several files could be meant."""
        plain = self.folder / name
        if is_file(plain):
            return plain
        found = self._by_name().get(_key(name.replace("\\", "/")), [])
        if len(found) > 1:
            shown = ", ".join(str(file.relative_to(self.folder)) for file in sorted(found)[:3])
            raise UserError(
                f"{self.folder}: {name!r} may be any of {shown}: write the ending, or the sub-folder, in the table"
            )
        return found[0] if found else plain

    def _by_name(self) -> dict[str, list[Path]]:
        """Every file under the names it may be written by."""
        if not self._listed and self.folder.is_dir():
            for file in sorted(self.folder.rglob("*")):
                if file.suffix.lower() in ENDINGS and file.is_file():
                    for name in set(_names(file.relative_to(self.folder))):
                        self._listed.setdefault(name, []).append(file)
        return self._listed


def is_file(path: Path) -> bool:
    """Whether there is a file; not for names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def filled(folder: Path) -> bool:
    """Whether there is a folder with something in it."""
    return folder.is_dir() and any(folder.iterdir())


def bare(name: str) -> str:
    """A name without the ending of an image."""
    ending = Path(name).suffix
    return name[: -len(ending)] if ending.lower() in ENDINGS else name


def _names(path: Path) -> Iterator[str]:
    """With and without the ending and the folders."""
    for name in (path.as_posix(), path.name):
        yield _key(name)
        yield _key(bare(name))


def _key(name: str) -> str:
    """One spelling for equal names: case, and the form of accented letters, which differs between systems."""
    return unicodedata.normalize("NFC", name).casefold()


def find_all(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of all names. Raises UserError with all names that may be several files."""
    files, found = ImageFiles(folder), []
    problems: list[str] = []
    for name in names:
        try:
            found.append(files.find(name))
        except UserError as error:
            problems += error.problems
            found.append(folder / name)
    if problems:
        unique = list(dict.fromkeys(problems))
        raise UserError([*unique[:10], *([f"... and {len(unique) - 10} more"] if len(unique) > 10 else [])])
    return found
