"""A table as users bring it: csv of any separator and encoding, Parquet or Excel. Every row has every column, or it is an error."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairquant.errors import UserError, suggestion
from fairquant_datasets.typed_tables import EXCEL, OLD_EXCEL, PARQUET, read_cells

Row = dict[str, str]

SEPARATORS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?\r?\n', re.IGNORECASE)
#: Marks of the byte order, the longest first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
#: 15 digits and more in scientific notation.
ROUNDED = re.compile(r"[+-]?\d(?:[.,]\d*)?[eE]\+?(?:1[5-9]|[2-9]\d)")
#: Problems of one table that are listed.
SHOWN = 10
#: Characters of a field, at most.
LONGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """rows: the columns that were asked for, stripped; lines: where each row stands in the file (row of a sheet); columns: all
    names; notes: how the file was read, where that had to be found out."""

    file: Path
    rows: Sequence[Row]
    lines: Sequence[int]
    columns: Sequence[str]
    notes: Sequence[str] = field(default_factory=tuple)

    def at(self, number: int) -> str:
        """The place of a row, for messages."""
        return f"{self.file}:{self.lines[number]}"


def read_csv(file: Path, needed: Sequence[str]) -> list[Row]:
    """The rows of a table with all of its columns. UserError where it cannot be read or lacks a needed column."""
    return list(read_table(file, needed, all_columns=True).rows)


def read_table(file: Path, needed: Sequence[str], all_columns: bool = False) -> TableFile:
    """The needed columns (or all) of a table. Raises UserError, all problems at once: a file that cannot be read, columns that
    are missing or named twice, rows with another number of fields, quotation marks that do not pair, long numbers that lost digits."""
    table = _read(file, needed, all_columns)
    for name in needed:
        for number, row in enumerate(table.rows):
            if ROUNDED.fullmatch(row[name]):
                raise UserError(
                    f"{table.at(number)}: {name} {row[name]!r} is a long number as a spreadsheet or a floating-point column "
                    "keeps it: digits are lost. Store such numbers as text"
                )
    return table


def _read(file: Path, needed: Sequence[str], all_columns: bool) -> TableFile:
    ending = file.suffix.lower()
    if file.exists() and not file.is_file():
        raise UserError(f"{file}: is a folder, a device or a pipe, not a table")
    if ending in (*PARQUET, *EXCEL, *OLD_EXCEL):
        return _from_cells(file, needed, all_columns)
    text, notes = _text(file)
    declared = SEPARATOR_LINE.match(text)  # Excel's own
    text = text if declared is None else "\n" + text[declared.end() :]
    separator = _separator(text, needed) if declared is None else declared[1]
    if separator != "," and separator in NAMES:
        notes.append(f"{file.name}: columns are separated by {NAMES[separator]}")
    rows, lines = _records(file, text, separator)
    if not rows:
        raise UserError(f"{file}: is empty")
    head = [name.strip() for name in rows[0]]
    check_columns(file, head, needed)
    width = len(head)
    wrong = [number for number, fields in enumerate(rows) if len(fields) != width]
    if len(wrong) == len(rows) - 1 and all(len(fields) == width + 1 and not fields[-1].strip() for fields in rows[1:]):
        raise UserError(
            f"{file}: every row but the first ends with {separator!r}: name that column in the first row, or take them away"
        )
    if wrong:
        listed = [_miscounted(file, lines[n], rows[n], head, separator) for n in wrong[:SHOWN]]
        more = [f"... and {len(wrong) - SHOWN} more rows"] if len(wrong) > SHOWN else []
        raise UserError([*listed, *more])
    kept = [place for place, name in enumerate(head) if name and (all_columns or name in needed)]
    names = [head[place] for place in kept]
    columns = [[row[place].strip() for row in rows[1:]] for place in kept]
    if broken := sum("\n" in value for column in columns for value in column):
        notes.append(f"{file.name}: {broken} field(s) contain line breaks: is a quotation mark astray?")
    return TableFile(
        file=file, lines=lines[1:], columns=head, notes=tuple(notes),
        rows=[dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)],
    )  # fmt: skip


def check_columns(file: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    """UserError where needed columns are missing, or stand there twice."""
    listed = ", ".join(name for name in columns if name)
    missing = [
        f"{file}: no column {name!r}.{suggestion(name, columns)} Columns: {listed}"
        for name in needed
        if name not in columns
    ]
    twice = [f"{file}: two columns are called {name!r}: rename one" for name in needed if list(columns).count(name) > 1]
    if missing or twice:
        raise UserError([*missing, *twice])


def read_text(file: Path) -> str:
    """The text of a file in any of the encodings that tables may have. Raises UserError."""
    return _text(file)[0]


def _text(file: Path) -> tuple[str, list[str]]:
    """The text of a file, and how its encoding was found where it is not UTF-8."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or b"\0" in content:
            raise UserError(
                f"{file}: byte {error.start} is not {encoding}. Save the table as UTF-8 csv (a spreadsheet itself: as .xlsx)"
            ) from error
        line = content.count(b"\n", 0, error.start) + 1
        return content.decode("cp1252", "replace"), [
            f"{file.name}: is not UTF-8 (line {line}) and is read as Windows-1252; if names look wrong, save it as UTF-8"
        ]
    if "\0" in text:
        raise UserError(f"{file}: is no text: it contains zero bytes. Save the table as UTF-8 csv")
    return text, [] if encoding.startswith("utf-8") else [f"{file.name}: is read as {encoding.upper()}"]


def _separator(text: str, needed: Sequence[str]) -> str:
    """The separator under which the first line has most of the needed columns; then most columns."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def found(separator: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in first.split(separator)]
        return sum(name in names for name in needed), len(names)

    return max(SEPARATORS, key=found)


def _records(file: Path, text: str, separator: str) -> tuple[list[list[str]], Sequence[int]]:
    """The fields of each record that is not blank, and the line at which it begins. UserError for quotation marks that do not
    pair."""
    limit = csv.field_size_limit(LONGEST)
    records: list[list[str]] = []
    lines_of = io.StringIO(unicodedata.normalize("NFC", text), newline="")
    reader = csv.reader(lines_of, delimiter=separator, strict=True, skipinitialspace=True)
    ends: list[int] = []
    try:
        for record in reader:
            records.append(record)
            ends.append(reader.line_num)
    except csv.Error as error:
        line = ends[-1] + 1 if ends else 1
        raise UserError(
            f"{file}:{line}: a quotation mark here does not pair. Write a text with {separator!r} or line breaks in "
            'quotation marks, and a quotation mark within it twice ("")'
        ) from error
    finally:
        csv.field_size_limit(limit)
    lines = [1, *(end + 1 for end in ends[:-1])]
    if all(records):
        return records, lines
    kept = [number for number, record in enumerate(records) if record]
    return [records[number] for number in kept], [lines[number] for number in kept]


def _miscounted(file: Path, line: int, fields: list[str], head: list[str], separator: str) -> str:
    hint = (
        f"a text that contains {separator!r} must stand in quotation marks" if len(fields) > len(head)
        else "fields are missing"
    )  # fmt: skip
    return f"{file}:{line}: {len(fields)} fields, but {len(head)} columns: {hint}"


def _from_cells(file: Path, needed: Sequence[str], all_columns: bool) -> TableFile:
    """A table whose cells have types."""
    cells = read_cells(file)
    check_columns(file, cells.columns, needed)
    kept = {name: place for place, name in enumerate(cells.columns) if name and (all_columns or name in needed)}
    blank = [name for name, place in kept.items() if name in needed and not any(row[place] for row in cells.values)]
    if blank and file.suffix.lower() not in PARQUET:
        raise UserError(
            f"{file}: no value in {', '.join(map(repr, blank))}. Of formulas the results count that a spreadsheet stored: open the "
            "file in one and save it"
        )
    return TableFile(
        file=file, rows=[{name: row[place] for name, place in kept.items()} for row in cells.values], lines=cells.lines,
        columns=cells.columns, notes=cells.notes,
    )  # fmt: skip
