"""One parent run in MLflow for a comparison or a study, with its runs as children."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fairquant_mlflow import parents
from fairquant_mlflow.listener import ID_FILE

RECIPE = SimpleNamespace(name="lesions", method="fq-baq")
COMPARED = {
    "rows": [{"name": "fp32", "seeds": [0], "metrics": {"accuracy": {"mean": 0.8}}, "bits": {"mean": 32.0}, "megabytes": {"mean": 4.0}}],
    "runs": [{"problem": None}],
}  # fmt: skip
SEARCHED = {"results": {"objectives": [], "trials": [{"number": 0, "state": "complete", "validation": {}}]}}


@pytest.fixture
def parent():
    """A comparison or study and the folder of one of its runs, whose MLflow run is `child`."""
    folder = Path("study-abc")
    folder.mkdir()
    (folder / "compare.json").write_text(json.dumps(COMPARED))
    (folder / "study.json").write_text(json.dumps(SEARCHED))
    (folder / "compare.md").write_text("| method |\n")
    id_file = Path("run") / ID_FILE
    id_file.parent.mkdir(parents=True)
    id_file.write_text("child")
    return SimpleNamespace(recipe=RECIPE, folder=folder, name="study-abc")


@pytest.fixture
def child(client):
    client.runs["child"] = {"mlflow.runName": "fq-baq seed0"}
    client.metrics["child"] = {"accuracy": 0.7}


def test_a_study_that_is_resumed_has_the_parent_it_had(client, parent):
    parents.start(parent, "study")
    tags = client.runs["run-1"]
    assert (tags["mlflow.runName"], tags["kind"]) == ("lesions study-abc", "study")
    assert tags["mlflow.source.name"] == "fairquant study lesions"
    parents.start(parent, "study")
    assert client.status == {"run-1": "RUNNING"}


def test_a_parent_of_another_store_is_opened_anew(client, parent):
    (parent.folder / "mlflow-run").write_text("in another store")
    parents.start(parent, "study")
    assert (parent.folder / "mlflow-run").read_text() == "run-1"


def test_a_finished_comparison_has_its_files_its_table_and_no_metric_of_a_child(client, child, parent):
    parents.start(parent, "comparison")
    own = (parent.folder / "mlflow-run").read_text()
    parents.finish(parent, "comparison", [Path("run"), Path("untracked")])
    assert client.runs["child"]["mlflow.parentRunId"] == own
    assert client.metrics[own] == {
        "runs": 1, "runs/failed": 0, "methods/accuracy/fp32": 0.8, "methods/average_bits/fp32": 32, "methods/megabytes/fp32": 4,
    }  # fmt: skip
    assert client.runs[own]["mlflow.note.content"] == "| method |\n"
    assert client.files[own] == ["compare.html", "compare.json", "compare.md", "compare.tex"]
    assert client.status[own] == "FINISHED"


def test_a_finished_study_counts_its_trials(client, child, parent):
    parents.start(parent, "study")
    own = (parent.folder / "mlflow-run").read_text()
    parents.finish(parent, "study", [Path("run")])
    assert (client.metrics[own]["trials"], client.metrics[own]["trials/complete"]) == (1, 1)
    assert client.files[own] == ["study.html", "study.json"]


def test_without_a_parent_nothing_is_logged(client, child, parent):
    parents.finish(parent, "study", [Path("run")])
    assert client.runs == {"child": {"mlflow.runName": "fq-baq seed0"}}
    assert not client.files
