"""Parquet and Excel: tables whose cells have types. Whole numbers keep all digits, blanks are ""."""

from __future__ import annotations

import math
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairquant.errors import UserError

PARQUET, EXCEL, OLD_EXCEL = (".parquet", ".pq"), (".xlsx", ".xlsm"), (".xls",)
#: Bytes of a workbook when it is unpacked, at most.
UNPACKED = 2 * 10**9
#: Whole numbers up to here are exact as floating-point ones.
EXACT = 2.0**53
#: Rows and cells of a table, at most.
MOST_ROWS, MOST_CELLS = 2_000_000, 40_000_000
#: How files begin that Office encrypts, and .xls files.
OLE = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, kw_only=True)
class Cells:
    """columns: names; values: rows of texts, each as long as columns; lines: where each row stands; notes: for the user."""

    columns: Sequence[str]
    values: Sequence[Sequence[str]]
    lines: Sequence[int]
    notes: tuple[str, ...] = ()


def read_cells(file: Path) -> Cells:
    """All cells of a Parquet file, or of the first sheet of a workbook. Raises UserError."""
    ending = file.suffix.lower()
    kind = "Parquet" if ending in PARQUET else "Excel"
    try:
        if ending in PARQUET:
            return _parquet(file)
        return _old_excel(file) if ending in OLD_EXCEL else _excel(file)
    except UserError:
        raise
    except ImportError as error:
        extra = "pip install 'fairquant[excel]'" if ending not in OLD_EXCEL else "pip install xlrd, or save it as .xlsx"
        raise UserError(f"{file}: reading {kind} needs another package: {extra}") from error
    except Exception as error:  # whatever their readers raise for files that are damaged
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: cannot be read as {kind}: {reason[:200]}") from error


def _parquet(file: Path) -> Cells:
    from pyarrow import parquet, types

    about = parquet.ParquetFile(file).metadata
    if about.num_rows > MOST_ROWS or about.num_rows * about.num_columns > MOST_CELLS:
        raise UserError(
            f"{file}: {about.num_rows} rows of {about.num_columns} columns: it cannot be a table of images "
            f"(at most {MOST_ROWS} rows and {MOST_CELLS} cells)"
        )
    table = parquet.read_table(file)
    names = [str(name).strip() for name in table.column_names]
    nested = [
        name
        for name, kind in zip(names, table.schema.types, strict=True)
        if types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
    ]
    columns = [
        [""] * table.num_rows if name in nested else [_text(value) for value in column.to_pylist()]
        for name, column in zip(names, table.columns, strict=True)
    ]
    note = f"{file.name}: columns of lists, structures or bytes cannot be read: {', '.join(nested)}"
    return Cells(
        columns=names, values=list(zip(*columns, strict=True)), lines=range(2, table.num_rows + 2),
        notes=(note,) if nested else (),
    )  # fmt: skip


def _excel(file: Path) -> Cells:
    """Row by row; rows without any value, of which a sheet may have a million, are no rows."""
    import openpyxl

    with open(file, "rb") as stream:
        if stream.read(4) == OLE:
            raise UserError(
                f"{file}: is encrypted, or an old .xls file. Save it as .xlsx without a password, or as csv"
            )
    with zipfile.ZipFile(file) as packed:
        if sum(each.file_size for each in packed.infolist()) > UNPACKED:
            raise UserError(f"{file}: unpacks to more than {UNPACKED / 1e9:.0f} GB: it cannot be a table of images")
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        sheets = book.worksheets
        sheets[0].reset_dimensions()  # what a file says about its size may be a million empty rows
        cells = _sheet(file, sheets[0].iter_rows(values_only=True))
    finally:
        book.close()
    notes = [f"{file.name}: of {len(sheets)} sheets the first is read, {sheets[0].title!r}"] if len(sheets) > 1 else []
    return Cells(columns=cells.columns, values=cells.values, lines=cells.lines, notes=tuple(notes))


def _old_excel(file: Path) -> Cells:
    import pandas

    return _sheet(file, pandas.read_excel(file, dtype=object, header=None, na_filter=False).itertuples(index=False))


def _sheet(file: Path, rows: Iterable[Sequence[object]]) -> Cells:
    found: list[list[str]] = []
    lines, cells = [], 0
    for line, row in enumerate(rows, 1):
        cells += len(row)
        if cells > MOST_CELLS:
            raise UserError(
                f"{file}:{line}: more than {MOST_CELLS / 1e6:.0f} million cells: it cannot be a table of images"
            )
        texts = [_text(value) for value in row]
        while texts and not texts[-1]:
            texts.pop()
        if found and len(texts) > len(found[0]):
            raise UserError(
                f"{file}:{line}: {len(texts)} cells, but {len(found[0])} columns: give every column a name in the first row"
            )
        if texts:
            found.append(texts)
            lines.append(line)
    if not found:
        raise UserError(f"{file}: is empty")
    head = found[0]
    return Cells(columns=head, values=[[*row, *[""] * (len(head) - len(row))] for row in found[1:]], lines=lines[1:])


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) < EXACT else repr(value)  # 9.007e+17: a table's columns are checked for it
    return unicodedata.normalize("NFC", str(value).strip())
