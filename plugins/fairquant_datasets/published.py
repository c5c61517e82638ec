"""What public data sets with one table share: their layout is found, their table read as any other, and its rows counted against the
published number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from fairquant.errors import UserError
from fairquant.roles.dataset import DataContext, Splits, SplitSeed
from fairquant_datasets.tables import Table, build_splits
from fairquant_datasets.values import AttributeValues

#: Both spellings of the sexes, whatever their case.
SEX = AttributeValues(map={"female": "female", "male": "male"})


@dataclass(frozen=True, kw_only=True)
class Published:
    """root: the folder with the table and, in it or in its sub-folders, the images. Split as `split_seed` says (null: by the run's
    seed)."""

    #: Names under which the table is distributed, the number of its images, and where it can be had.
    tables: ClassVar[tuple[str, ...]]
    images: ClassVar[int]
    source: ClassVar[str]
    private: ClassVar[tuple[str, ...]] = ("root",)

    root: str
    split_seed: SplitSeed | None = 42
    max_bad_images: int = 20

    def read(self, table: Path) -> Table:
        """The table without its images. Raises UserError."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """What is missing on this machine."""
        if self._table() is not None:
            return []
        return [
            f"dataset.root: {self.root!r} lacks {' or '.join(self.tables)}. It comes from {self.source}: put the table and the images "
            "there, or set dataset.root=FOLDER. To try everything without them, add --demo"
        ]

    def load(self, context: DataContext) -> Splits:
        """Read the table, decode the images and split them. Raises UserError."""
        table = self._table()
        if table is None:
            raise UserError(self.check())
        read = self.read(table)
        rows = read.counts["rows"]
        if rows != self.images:
            note = f"the table has {rows} rows, published were {self.images}: this is not the whole data set, or another edition"
            read = replace(read, notes=[note, *read.notes])
        return build_splits(read, context, self.split_seed, self.max_bad_images)

    def _table(self) -> Path | None:
        return next((Path(self.root) / name for name in self.tables if (Path(self.root) / name).is_file()), None)


def first_folder(root: Path, *names: str) -> Path:
    """The first of the sub-folders that exists; the root itself where none does."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def every_tenth(names: Iterable[str]) -> set[str]:
    """Every tenth of the different names in their order: what becomes the validation set where only train and test are given."""
    return set(sorted(set(names))[9::10])


def by_age(edge: float) -> AttributeValues:
    """Two groups: under the edge, and the edge and over."""
    return AttributeValues(bins=(edge,))
