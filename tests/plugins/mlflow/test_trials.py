"""Every trial of a study is a child of its own, whatever run it shares."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fairquant_mlflow import machine, trials
from fairquant_mlflow.listener import ID_FILE

RECIPE = SimpleNamespace(name="lesions", method="fq-baq")


@pytest.fixture
def study(client):
    folder = Path("study-abc")
    folder.mkdir()
    (folder / "mlflow-run").write_text("parent")
    client.runs |= {"parent": {}, "child": {"mlflow.runName": "fq-baq seed0", "method": "fq-qat", "seed": "4"}}
    id_file = Path("run") / ID_FILE
    id_file.parent.mkdir(parents=True)
    id_file.write_text("child")
    return SimpleNamespace(recipe=RECIPE, folder=folder, name="study-abc")


def children(client, parent="parent"):
    return {run for run, tags in client.runs.items() if tags.get("mlflow.parentRunId") == parent}


@pytest.mark.parametrize(("state", "status"), [("complete", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED")])
def test_a_trial_is_named_placed_under_its_study_and_ended_as_it_ended(client, study, state, status):
    trials.trial(study, 7, state, Path("run"), {"accuracy": 0.7})
    tags = client.runs["child"]
    assert (tags["mlflow.runName"], tags["state"]) == ("trial-007 fq-baq seed0", state)
    assert client.status["child"] == status
    assert client.metrics["child"] == {"validation/accuracy": 0.7}
    assert children(client) == {"child"}


def test_a_later_trial_with_the_same_values_is_a_child_that_names_the_first(client, study):
    for number in (7, 9):
        trials.trial(study, number, "complete", Path("run"), {"accuracy": 0.7})
    assert client.runs["child"]["mlflow.runName"] == "trial-007 fq-baq seed0"
    (other,) = children(client) - {"child"}
    tags = client.runs[other]
    assert (tags["mlflow.runName"], tags["duplicate_of"]) == ("trial-009 same as trial-007", "child")
    assert (tags["trial"], tags["state"], tags["method"], tags["seed"]) == ("9", "complete", "fq-qat", "4")
    assert client.metrics[other] == client.metrics["child"] == {"validation/accuracy": 0.7}
    assert client.status[other] == "FINISHED"


def test_a_run_that_failed_and_that_a_later_trial_finished_does_not_stay_open(client, study):
    trials.trial(study, 7, "failed", Path("run"), {})
    client.status["child"] = "RUNNING"  # resumed by the later trial
    trials.trial(study, 9, "complete", Path("run"), {"accuracy": 0.7})
    assert client.status["child"] == "FINISHED"
    assert client.runs["child"]["state"] == "failed"


def test_of_workers_that_share_a_run_one_is_the_first(client, study):
    from concurrent.futures import ThreadPoolExecutor
    from time import sleep

    slowly = client.set_tag

    def set_tag(run, key, value):
        sleep(0.02)
        slowly(run, key, value)

    client.set_tag = set_tag
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: trials.trial(study, number, "complete", Path("run"), {}), range(4)))
    assert sorted(client.runs[run]["trial"] for run in children(client)) == ["0", "1", "2", "3"]
    assert sum("duplicate_of" in client.runs[run] for run in children(client)) == 3


def test_a_trial_told_twice_has_one_child(client, study):
    for _ in range(2):
        trials.trial(study, 7, "complete", Path("run"), {"accuracy": 0.7})
    assert children(client) == {"child"}
    assert client.runs["child"]["mlflow.runName"] == "trial-007 fq-baq seed0"


def test_a_run_of_another_study_stays_there(client, study):
    trials.trial(study, 7, "complete", Path("run"), {})
    Path("second").mkdir()
    (Path("second") / "mlflow-run").write_text("second")
    trials.trial(SimpleNamespace(recipe=RECIPE, folder=Path("second"), name="second"), 7, "complete", Path("run"), {})
    assert children(client) == {"child"}
    (other,) = children(client, "second")
    assert client.runs[other]["duplicate_of"] == "child"


@pytest.mark.parametrize("folder", [None, Path("never-begun")])
def test_a_trial_that_failed_before_its_run_began_is_shown(client, study, folder):
    trials.trial(study, 3, "failed", folder, {})
    (child,) = children(client)
    assert client.runs[child]["mlflow.runName"] == "trial-003 not run"
    assert client.status[child] == "FAILED"


def test_a_trial_is_watched_no_longer_than_it_lasts(client, study, monkeypatch):
    stopped = []
    monkeypatch.setattr(machine, "stop", lambda run_id: stopped.append((run_id, client.status.get(run_id))))
    trials.trial(study, 7, "complete", Path("run"), {})
    assert stopped == [("child", None)]


def test_an_untracked_study_logs_nothing(client):
    trials.trial(SimpleNamespace(recipe=RECIPE, folder=Path("none"), name="none"), 1, "failed", None, {})
    assert not client.runs
