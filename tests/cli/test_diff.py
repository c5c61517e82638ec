"""fairquant diff: text, JSON, page, and a user's mistakes."""

from __future__ import annotations

import json

import pytest
from helpers.command import fairquant
from helpers.reports import diff_of, unpaired
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.cli.diff import text
from fairquant.errors import UserError


def test_two_runs_are_shown_written_and_made_a_page(quickstart_runs, tmp_path):
    names = [str(folder) for folder in quickstart_runs]
    out, html = tmp_path / "diff.json", tmp_path / "diff.html"
    result = CliRunner().invoke(app, ["diff", *names, "--out", str(out), "--html", str(html)])
    assert result.exit_code == 0, result.output
    assert "Both were tested on the same" in result.stdout
    assert "DEMO" in result.stdout
    content = json.loads(out.read_text())
    assert content["pairing"] == "same"
    accuracy = content["metrics"][0]
    assert accuracy["difference"]["value"] == pytest.approx(accuracy["b"]["value"] - accuracy["a"]["value"])
    assert all(name in html.read_text() for name in names)
    printed = CliRunner().invoke(app, ["diff", *names, "--json"])
    assert json.loads(printed.stdout) == content


def test_the_tables_are_aligned_and_say_what_they_are():
    lines = text(diff_of()).splitlines()
    assert lines[0] == "Both were tested on the same 40 images: differences are paired."
    head = next(line for line in lines if line.startswith("  group"))
    row = next(line for line in lines if line.startswith("  dark"))
    for name, cell in (("images", "12"), ("B - A", "+0.100"), ("better?", "no difference"), ("newly right", "2")):
        assert row[head.index(name) :].startswith(cell)
    assert "B - A" not in text(unpaired())


def test_mistakes_end_with_2_and_every_file_that_is_wrong(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(b"x")
    process = fairquant("diff", "nowhere", "cut.onnx")
    assert process.returncode == 2
    assert process.stdout == ""
    assert "nowhere: no such file or folder" in process.stderr
    assert "cut.onnx: not an ONNX file" in process.stderr
    assert "Traceback" not in process.stderr


def test_other_data_are_drawn_for_both(quickstart_runs):
    names = [str(folder) for folder in quickstart_runs]
    result = CliRunner().invoke(app, ["diff", *names, "dataset.images=70", "--dataset", "synthetic-lesions", "--all"])
    assert result.exit_code == 0, result.output
    assert "Both were tested on the same 70 images" in result.stdout


def test_an_output_that_cannot_be_written_and_a_third_folder_are_mistakes(quickstart_runs, tmp_path):
    names = [str(folder) for folder in quickstart_runs]
    (tmp_path / "folder").mkdir()
    failed = CliRunner().invoke(app, ["diff", *names, "--html", "folder"])
    assert isinstance(failed.exception, UserError)
    assert "--html folder: is a folder" in str(failed.exception)
    assert "'third' is not key=value" in str(CliRunner().invoke(app, ["diff", *names, "third"]).exception)
