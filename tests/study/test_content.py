"""A comparison's and a study's folder hold one recipe with one content."""

from __future__ import annotations

import csv

import yaml
from helpers.data_sets import own
from helpers.recipes import TINY
from helpers.studies import SEARCH

import fairquant
from fairquant.runs.folder import Quiet
from fairquant.study.content import begin, folder_of
from fairquant.study.search import search

IDENTITY = {"recipe": "r", "images": "i", "table": "60 images t", "question": "q"}


class Heard(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_other_content_has_another_folder_and_what_changed_is_said(tmp_path):
    first, heard = folder_of("study", tmp_path, IDENTITY), Heard()
    begin(first, IDENTITY, heard)
    begin(first, IDENTITY, heard)
    assert heard.said == []
    changed = {**IDENTITY, "classes": "['a']"}
    other = folder_of("study", tmp_path, changed)
    assert other != first
    begin(other, changed, heard)
    assert len(heard.said) == 1
    assert f"{first} is of other content: " in heard.said[0]
    asked = {**changed, "question": "another"}
    begin(folder_of("study", tmp_path, asked), asked, heard)
    assert len(heard.said) == 1  # another question was not asked before


def corrected(file) -> None:
    """Three labels of the table are corrected."""
    rows = list(csv.DictReader(file.open()))
    for row in rows[:3]:
        row["diagnosis"] = "well" if row["diagnosis"] == "ill" else "ill"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_trials_and_rows_of_other_labels_are_not_taken_over(tmp_path):
    file = own(tmp_path / "d")
    dataset = {"name": "image-table", "table": str(file), "image": "file", "label": "diagnosis", "attributes": ["site"]}
    content = {**TINY, "method": "uniform-3-ptq", "dataset": dataset, "budget": {"average_bits": 3}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    searched = {**content, "method": "fq-qat-ptq", "search": {**yaml.safe_load(SEARCH)["search"], "trials": 1}}
    (tmp_path / "searched.yaml").write_text(yaml.safe_dump(searched, sort_keys=False))
    compare = lambda: fairquant.compare(tmp_path / "mine.yaml", methods=["uniform-3-ptq"], seeds=[1]).folder
    heard = Heard()
    before = compare(), search(tmp_path / "searched.yaml", display=heard)
    assert (compare(), search(tmp_path / "searched.yaml", display=heard)) == before
    corrected(file)
    after = compare(), search(tmp_path / "searched.yaml", display=heard)
    assert not set(before) & set(after)
    assert any("is of other content: " in text for text in heard.said)
