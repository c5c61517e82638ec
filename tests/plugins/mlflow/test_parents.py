"""One parent run in MLflow for a comparison or a study, with its runs as children."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fairquant_mlflow import parents
from fairquant_mlflow.listener import ID_FILE

RECIPE = SimpleNamespace(name="lesions")


class Client:
    """An MLflow client that remembers what it is asked."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, str]] = {"child": {"mlflow.runName": "fq-baq seed0"}}
        self.status: dict[str, str] = {}
        self.artifacts: list[str] = []

    def create_run(self, experiment, tags):
        self.runs["parent"] = dict(tags)
        return SimpleNamespace(info=SimpleNamespace(run_id="parent"))

    def set_terminated(self, run, status):
        if run not in self.runs:
            raise KeyError(run)
        self.status[run] = status

    def set_tag(self, run, key, value):
        self.runs[run][key] = value

    def get_run(self, run):
        return SimpleNamespace(data=SimpleNamespace(tags=self.runs[run], metrics={"accuracy": 0.7}))

    def log_artifact(self, run, path):
        self.artifacts.append(path)


@pytest.fixture
def client(monkeypatch):
    own, logged = Client(), []
    monkeypatch.setattr(parents, "client_of", lambda recipe: own)
    monkeypatch.setattr(parents, "experiment_of", lambda client, recipe: "1")
    monkeypatch.setattr(parents, "log_values", lambda client, run, values, step=0: logged.append((run, values, step)))
    own.logged = logged
    return own


@pytest.fixture
def study():
    folder = Path("study-abc")
    folder.mkdir()
    id_file = Path("run") / ID_FILE
    id_file.parent.mkdir(parents=True)
    id_file.write_text("child")
    return SimpleNamespace(recipe=RECIPE, folder=folder, name="study-abc")


def test_a_study_that_is_resumed_has_the_parent_it_had(client, study):
    parents.start(study, "study")
    assert client.runs["parent"] == {"mlflow.runName": "lesions study-abc", "kind": "study"}
    parents.start(study, "study")
    assert client.status == {"parent": "RUNNING"}


def test_a_parent_of_another_store_is_opened_anew(client, study):
    (study.folder / "mlflow-run").write_text("in another store")
    parents.start(study, "study")
    assert (study.folder / "mlflow-run").read_text() == "parent"


@pytest.mark.parametrize(("state", "status"), [("complete", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED")])
def test_a_trial_is_named_placed_under_its_study_and_ended_as_it_ended(client, study, state, status):
    parents.start(study, "study")
    parents.trial(study, 7, state, Path("run"), {"accuracy": 0.7})
    child = client.runs["child"]
    assert (child["mlflow.runName"], child["state"], child["mlflow.parentRunId"]) == (
        "trial-007 fq-baq seed0",
        state,
        "parent",
    )
    assert client.status["child"] == status
    assert client.logged == [("child", {"validation/accuracy": 0.7}, 0)]


def test_a_run_of_two_trials_keeps_the_name_of_the_first(client, study):
    parents.start(study, "study")
    for number in (7, 9):
        parents.trial(study, number, "complete", Path("run"), {})
    assert client.runs["child"]["mlflow.runName"] == "trial-007 fq-baq seed0"


def test_a_finished_comparison_holds_its_files_and_the_results_of_its_runs(client, study):
    parents.start(study, "comparison")
    parents.finish(study, "comparison", [Path("run"), Path("untracked")])
    assert client.runs["parent"]["steps"] == "0: fq-baq seed0"
    assert [Path(path).name for path in client.artifacts] == [
        "compare.html",
        "compare.json",
        "compare.md",
        "compare.tex",
    ]
    assert client.logged[0][0] == "parent"
    assert client.logged[0][1]["accuracy"] == 0.7
    assert client.status["parent"] == "FINISHED"


def test_without_a_parent_nothing_is_logged(client, study):
    parents.finish(study, "study", [Path("run")])
    parents.trial(study, 1, "failed", None, {})
    assert not client.logged
    assert not client.artifacts
