"""fairquant runs: the table, its order, JSON, what is damaged or unfinished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.reports import metric, write_report
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError


def runs(*arguments: str):
    return CliRunner().invoke(app, ["runs", *arguments])


def order(*arguments: str) -> list[str]:
    listed = json.loads(runs(".", "--json", *arguments).output)["runs"]
    return [Path(run["folder"]).name for run in listed]


@pytest.fixture
def three(tmp_path):
    """a: best accuracy, most bits, newest; c has no value of ece."""
    for name, accuracy, bits, when in (("a", 0.9, 4.0, 300), ("b", 0.5, 2.0, 100), ("c", 0.7, 3.0, 200)):
        metrics = {"accuracy": metric(accuracy, {}), "ece": metric(accuracy / 10, {})}
        if name == "c":
            metrics["ece"]["value"] = None
        artifact = {"path": "model.safetensors", "bytes": int(bits * 1e6), "sha256": "x"}
        file = write_report(tmp_path / name, bits={"average": bits}, metrics=metrics, artifact=artifact)
        os.utime(file, (when, when))


def test_every_order_is_what_it_says(three):
    assert order() == ["a", "b", "c"]
    assert order("--reverse") == ["c", "b", "a"]
    assert order("--sort", "bits") == order("--sort", "size") == ["b", "c", "a"]
    assert order("--sort", "accuracy") == order("--sort", "finished") == ["a", "c", "b"]
    assert order("--sort", "ece") == ["a", "b", "c"]
    assert order("--sort", "ece", "--reverse") == ["b", "a", "c"]  # without a value: last in both
    with pytest.raises(UserError, match=r"--sort acuracy: no run has it\. Did you mean 'accuracy'\?"):
        raise runs(".", "--sort", "acuracy").exception


def test_the_table_has_a_line_for_each_run(tmp_path):
    write_report(tmp_path / "runs" / "tiny" / "one", recipe="tiny (DEMO: synthetic data, a few epochs)")
    write_report(tmp_path / "runs" / "two", accept={"answer": "FAIL", "limits": []}, metrics={})
    lines = runs().output.splitlines()  # runs/ where no folder is named
    assert lines[0].split() == [
        "folder",
        "recipe",
        "method",
        "seed",
        "bits",
        "MB",
        "accuracy",
        "worst",
        "group",
        "answer",
        "finished",
    ]
    assert lines[1].split()[:9] == ["tiny/one", "tiny", "(demo)", "fq-baq", "3", "2.99", "0.05", "0.750", "0.600"]
    assert lines[2].split()[:9] == ["two", "tiny", "fq-baq", "3", "2.99", "0.05", "-", "-", "FAIL"]


def test_damaged_reports_are_counted_and_unfinished_runs_shown_where_asked_for(three, tmp_path):
    (tmp_path / "a" / "report.json").write_text("{")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("")
    result = runs(".")
    assert result.exit_code == 0
    assert "left out, damaged: 1\n  a/report.json: damaged" in result.output
    assert "begun" not in result.output
    assert "not finished: begun" in runs(".", "--unfinished").output
    content = json.loads(runs(".", "--json").output)
    assert (len(content["runs"]), len(content["damaged"]), content["unfinished"]) == (2, 1, ["begun"])


def test_an_empty_folder_says_how_to_get_a_run_and_a_missing_one_is_refused(monkeypatch):
    for arguments in ((), (".",)):
        result = runs(*arguments)
        assert result.exit_code == 0
        assert "no finished run. `fairquant run quickstart --demo` makes one" in result.output
    assert json.loads(runs("--json").output)["runs"] == []
    assert "nowhere: no such folder" in str(runs("nowhere").exception)
    monkeypatch.setenv("FAIRQUANT_RUNS", "elsewhere")
    assert runs().output.startswith("elsewhere: no finished run")


def test_a_runs_own_folder_is_listed_by_its_name(finished):
    assert finished.folder.name in runs(str(finished.folder)).output


def test_runs_are_listed_without_torch(three):
    code = (
        "import sys; sys.argv = ['fairquant', 'runs', '.']; from fairquant.cli import app; app(standalone_mode=False); "
        "print([name for name in ('torch', 'numpy', 'timm', 'mlflow') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.splitlines()[-1] == "[]"
    assert len(output.splitlines()) == 5
