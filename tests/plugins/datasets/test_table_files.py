"""Tables as users bring them: every row has every column, or the error names file and line."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fairquant_datasets.table_files import read_table

from fairquant.errors import UserError

NEEDED = ["image", "label"]


def read(content: str | bytes, name: str = "t.csv", needed: list[str] = NEEDED):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(Path(name), needed)


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("image,label\na,b,c\nd\n", ["t.csv:2: 3 fields, but 2 columns: a text that contains ',' must stand in quotation marks",
                                     "t.csv:3: 1 fields, but 2 columns: fields are missing"]),
        ('image,label\na,"b\nc"\nd,e,f\n', ["t.csv:4: 3 fields, but 2 columns: a text that contains ',' must stand in quotation marks"]),
        ("image,label,image\na,b,c\n", ["t.csv: two columns are called 'image': rename one"]),
        ("", ["t.csv: is empty"]),
        (b"image,label\0\n", ["t.csv: is no text: it contains zero bytes. Save the table as UTF-8 csv"]),
        ("picture,Label\n", ["t.csv: no column 'image'. Columns: picture, Label", "t.csv: no column 'label'. Did you mean 'Label'? Columns: picture, Label"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(content, problems):
    with pytest.raises(UserError) as caught:
        read(content)
    assert list(caught.value.problems) == problems


@pytest.mark.parametrize("content", ['image,label\nx,y\n"a,b\nc,"d",e\n', 'image,label\nx,y\na,"b\nc,d\n'])
def test_a_stray_quotation_mark_swallows_no_rows(content):
    with pytest.raises(UserError, match=r"t.csv:3: a quotation mark here does not pair"):
        read(content)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("image;label\na;b, c\n", "columns are separated by semicolons"),
        ("image\tlabel\na\tb, c\n", "columns are separated by tabs"),
        ('"image"|"label"\na|b, c\n', "columns are separated by vertical bars"),
        ("\ufeffimage,label\na,'b, c'\n".replace("'", '"'), None),
        ('image,label\na,"b, c"\n'.encode("utf-16"), "is read as UTF-16"),
        (b'image,label\na,"b, c"\n\n', None),
    ],
)
def test_separator_and_encoding_are_found_and_said(content, note):
    table = read(content)
    assert list(table.rows) == [{"image": "a", "label": "b, c"}]
    assert [each.partition(": ")[2] for each in table.notes] == ([] if note is None else [note])


def test_an_old_encoding_is_read_with_its_line_named():
    table = read("image,label\na,b\nc,n\xe6vus\n".encode("latin-1"))
    assert table.rows[1]["label"] == "nævus"
    assert "is not UTF-8 (line 3) and is read as Windows-1252" in table.notes[0]


def test_long_fields_quotes_within_a_text_and_line_breaks_are_read():
    table = read('image,label,report\na,b 3" c,"' + "x" * 200_000 + '"\nd,"e\nf","say ""g"""\n')
    assert [row["label"] for row in table.rows] == ['b 3" c', "e\nf"]
    assert set(table.rows[0]) == {"image", "label"}
    assert table.at(1) == "t.csv:3"


def test_parquet_and_excel_are_tables_as_well(monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    frame = pandas.DataFrame({"image": ["a", "b"], "label": ["x", None], "age": [40.0, 41.5]})
    frame.to_parquet("t.parquet")
    frame.to_excel("t.xlsx", index=False)
    for name in ("t.parquet", "t.xlsx"):
        table = read_table(Path(name), ["image", "label", "age"])
        assert list(table.rows) == [
            {"image": "a", "label": "x", "age": "40"},
            {"image": "b", "label": "", "age": "41.5"},
        ]
        with pytest.raises(UserError, match="no column 'sex'"):
            read_table(Path(name), ["sex"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # not installed
    with pytest.raises(UserError, match=r"pip install 'fairquant\[excel\]'"):
        read_table(Path("t.xlsx"), ["image"])
    for name, content in (("bad.parquet", b"x"), ("bad.xlsx", b""), ("bad.xls", b"x")):
        Path(name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as|needs another package"):
            read_table(Path(name), ["image"])


def test_a_small_parquet_file_of_too_many_rows_is_refused_before_it_is_read():
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(3_000_000, np.int8)), ["a.png"])
    parquet.write_table(pyarrow.table({"image": column, "label": column}), "t.parquet")
    assert Path("t.parquet").stat().st_size < 100_000
    with pytest.raises(UserError, match="t.parquet: 3000000 rows of 2 columns: it cannot be a table of images"):
        read_table(Path("t.parquet"), NEEDED)


def test_whole_numbers_of_parquet_keep_their_digits_and_an_index_is_a_column():
    pandas = pytest.importorskip("pandas")
    large = [2**62, 2**62 + 1]
    frame = pandas.DataFrame(
        {"image": ["a", "b"], "label": pandas.array([1, None], "Int64")}, index=pandas.Index(large, name="patient")
    )
    frame.assign(boxes=[[1], [2]], raw=[b"x", b"y"]).to_parquet("t.parquet")
    table = read_table(Path("t.parquet"), ["image", "label", "patient"])
    assert [row["patient"] for row in table.rows] == [str(each) for each in large]
    assert [row["label"] for row in table.rows] == ["1", ""]
    assert table.notes == ("t.parquet: columns of lists, structures or bytes cannot be read: boxes, raw",)


def test_long_numbers_that_lost_their_digits_are_refused():
    pandas = pytest.importorskip("pandas")
    Path("t.csv").write_text("image,label\na,1e5\nb,9.007E+17\n")
    pandas.DataFrame({"image": ["a"], "label": [9.007e17], "other": [1e300]}).to_parquet("t.parquet")
    for name, line in (("t.csv", 3), ("t.parquet", 2)):
        with pytest.raises(UserError, match=f"{name}:{line}: label '9.007[eE].17' is a long number"):
            read_table(Path(name), NEEDED)
        assert read_table(Path(name), ["image"]).rows


def test_rows_that_all_end_with_a_separator_are_one_problem():
    with pytest.raises(UserError, match="every row but the first ends with ','") as caught:
        read("image,label\na,b,\nc,d,\n")
    assert len(caught.value.problems) == 1


def test_workbooks_that_are_not_what_they_seem():
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["image", "label"], ["a", "=1+1"]):
        book.active.append(row)
    book.create_sheet("old")
    book.save("t.xlsx")
    with pytest.raises(UserError, match="no value in 'label'. Of formulas the results count"):
        read_table(Path("t.xlsx"), NEEDED)
    assert read_table(Path("t.xlsx"), ["image"]).notes == ("t.xlsx: of 2 sheets the first is read, 'Sheet'",)
    book.active.cell(500_000, 2, "far")
    book.save("t.xlsx")
    table = read_table(Path("t.xlsx"), ["image"])
    assert (len(table.rows), table.lines[-1]) == (2, 500_000)
    book.active.cell(3, 16384, "beyond")
    book.save("t.xlsx")
    with pytest.raises(UserError, match=r"t.xlsx:3: 16384 cells, but 2 columns: give every column a name"):
        read_table(Path("t.xlsx"), ["image"])
    Path("t.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    with pytest.raises(UserError, match="is encrypted, or an old .xls file"):
        read_table(Path("t.xlsx"), ["image"])


def test_a_pipe_is_no_table():
    os.mkfifo("t.csv")
    with pytest.raises(UserError, match="is a folder, a device or a pipe, not a table"):
        read_table(Path("t.csv"), ["image"])


def test_a_hundred_thousand_rows_take_a_moment():
    Path("t.csv").write_text("image,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(100_000)))
    start = time.process_time()
    assert len(read_table(Path("t.csv"), NEEDED).rows) == 100_000
    assert time.process_time() - start < 10


def test_a_sheet_keeps_its_texts_and_the_names_of_its_columns():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    pandas.DataFrame([["image", "label"], ["a", "None"], ["b", "NA"], ["c", None]]).to_excel(
        "t.xlsx", index=False, header=False
    )
    assert [row["label"] for row in read_table(Path("t.xlsx"), NEEDED).rows] == ["None", "NA", ""]
    pandas.DataFrame([["image", "label", "label"], ["a", "x", "y"]]).to_excel("t.xlsx", index=False, header=False)
    with pytest.raises(UserError, match="two columns are called 'label'"):
        read_table(Path("t.xlsx"), NEEDED)
    pandas.DataFrame({"image": ["a", "b"], "label": pandas.array([1, None], "Int64")}).to_parquet("t.parquet")
    assert [row["label"] for row in read_table(Path("t.parquet"), NEEDED).rows] == ["1", ""]


def test_accents_have_one_form_and_line_breaks_in_a_text_are_said():
    table = read('image,label\na,"Mu\u0308nchen"\nb,M\u00fcnchen\nc, "x"\nd,"two\nlines"\n')
    assert [row["label"] for row in table.rows] == ["M\u00fcnchen", "M\u00fcnchen", "x", "two\nlines"]
    assert table.notes == ("t.csv: 1 field(s) contain line breaks: is a quotation mark astray?",)


def test_the_line_by_which_excel_declares_its_separator_is_read(tmp_path):
    (tmp_path / "t.csv").write_text('sep=;\r\nimage;label, long\r\na.png;"x;y"\r\n')
    read = read_table(tmp_path / "t.csv", ["image", "label, long"])
    assert read.rows == [{"image": "a.png", "label, long": "x;y"}]
    assert read.at(0).endswith("t.csv:3")
