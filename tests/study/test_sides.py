"""What a diff is given: folders and artifacts opened, and everything that may be wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.study.sides import open_source


def refused(path: Path, predict: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        open_source(path, predict)
    return str(caught.value)


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of a finished run, to damage."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def test_a_run_is_opened_with_its_report_recipe_and_predictions(finished):
    source = open_source(finished.folder, predict=False)
    assert source.stored is not None
    assert list(source.classes) == finished.report["dataset"]["classes"]
    assert (source.bits, source.bytes) == (finished.report["bits"]["average"], finished.report["artifact"]["bytes"])
    assert (source.content["method"], source.content["demo"]) == ("fq-baq", False)
    again = open_source(finished.folder, predict=True)
    assert again.stored is None
    assert again.classes == source.classes


def test_an_artifact_alone_says_what_its_header_says(untrained_artifact):
    source = open_source(untrained_artifact, predict=False)
    assert (source.classes, source.bits, source.report, source.stored) == (("a", "b", "c"), None, None, None)
    assert source.bytes == untrained_artifact.stat().st_size


def test_a_folder_that_is_no_finished_run_is_refused_with_the_way_out(tmp_path):
    for file, text in {
        "": "no run's folder (no report.json). `fairquant runs` lists finished runs",
        "recipe.yaml": "the run is not finished",
        "study.json": "a study's folder. Name two of its runs",
        "compare.json": "a comparison's folder. Name two of its runs",
    }.items():
        if file:
            (tmp_path / file).write_text("")
        assert text in refused(tmp_path)
    assert "nowhere: no such file or folder" in refused(tmp_path / "nowhere")


def test_everything_that_is_damaged_in_a_run_is_named_at_once(run):
    (run / "report.json").write_text("{")
    (run / "recipe.yaml").write_text("a: [")
    (run / "predictions.npz").write_bytes((run / "predictions.npz").read_bytes()[:500])
    message = refused(run)
    for text in (
        "report.json: damaged or cut off",
        "recipe.yaml:1: not valid YAML",
        "predictions.npz: damaged or cut off",
    ):
        assert text in message
    (run / "recipe.yaml").unlink()
    assert "recipe.yaml: cannot be read" in refused(run)
    (run / "model.safetensors").unlink()
    assert "model.safetensors: cannot be read" in refused(run, predict=True)


def test_an_artifact_that_is_damaged_or_foreign_is_refused_by_name(run, tmp_path):
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    assert "model.safetensors: " in refused(file)
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert "x.onnx: not an ONNX file, or cut off" in refused(tmp_path / "x.onnx")
    (tmp_path / "x.txt").write_text("x")
    assert "x.txt: a .safetensors artifact or an exported .onnx file is wanted" in refused(tmp_path / "x.txt")


def test_an_artifact_predicts_where_its_runs_files_are_missing_or_of_no_use(run):
    file = run / "model.safetensors"
    assert open_source(file, predict=False).stored is not None
    assert open_source(file, predict=True).stored is None
    (run / "predictions.npz").unlink()
    source = open_source(file, predict=False)
    assert (source.stored, source.report is None) == (None, False)
    (run / "report.json").write_text("{")
    assert open_source(file, predict=False).report is None
