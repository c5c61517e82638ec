"""From names in a table to files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from fairquant_datasets.image_files import find_all

from fairquant.errors import UserError


def folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("name", ["a.JPG", "a", "A", "a.jpg", "sub/a", "sub\\a.JPG", "A.jpg"])
def test_a_name_is_found_without_ending_folder_or_its_case(tmp_path, name):
    assert find_all(folder(tmp_path, "sub/a.JPG", "b.png", "notes.txt"), [name]) == [tmp_path / "sub" / "a.JPG"]


def test_the_path_as_written_comes_first_and_absolute_ones_are_taken(tmp_path):
    root = folder(tmp_path / "in", "a.png", "sub/a.png")
    outside = folder(tmp_path / "out", "a.png") / "a.png"
    assert find_all(root, ["a.png", "sub/a.png", str(outside)]) == [root / "a.png", root / "sub" / "a.png", outside]


def test_accents_are_found_in_either_form(tmp_path):
    root = folder(tmp_path, unicodedata.normalize("NFD", "Läsion 1.png"))
    assert find_all(root, [unicodedata.normalize("NFC", "Läsion 1")]) == [next(root.iterdir())]


def test_a_name_of_several_files_is_refused_and_one_of_none_kept_as_written(tmp_path):
    root = folder(tmp_path, "x/a.png", "y/a.png", "b.dcm")
    with pytest.raises(UserError, match=r"'a' may be any of x/a.png, y/a.png: write the ending, or the sub-folder"):
        find_all(root, ["a", "b"])
    assert find_all(root, ["none", "b"]) == [root / "none", root / "b.dcm"]
