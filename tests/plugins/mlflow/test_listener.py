"""MLflow sees every run; a server that is down costs a warning."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fairquant_mlflow import listener, machine
from helpers.recipes import write_recipe

import fairquant
from fairquant.recipe import read_recipe
from fairquant.recipe.events import RunInfo
from fairquant.runs.folder import Quiet


class Recorded(Quiet):
    def __init__(self):
        self.messages = []

    def say(self, text):
        self.messages.append(text)


def test_a_run_is_in_the_store(tracked):
    run, report = tracked.run, tracked.report
    assert run.info.run_name == "fq-baq-2.5bit-seed1"
    assert run.info.status == "FINISHED"
    assert run.data.params["budget.average_bits"] == "2.5"
    assert run.data.params["allocator.name"] == "minimax"
    assert run.data.metrics["accuracy"] == pytest.approx(report["metrics"]["accuracy"]["value"])
    assert "accuracy/tones IV-VI" in run.data.metrics
    assert run.data.tags["dataset.fingerprint"] == report["dataset"]["fingerprint"]
    assert run.data.tags["version.fairquant"] == fairquant.__version__
    assert len(tracked.client.get_metric_history(run.info.run_id, "quantized/loss")) == 2
    names = {file.path for file in tracked.client.list_artifacts(run.info.run_id)}
    assert names >= {"report.html", "bit_plan.csv", "model.safetensors", "report.json", "README.md"}


def test_a_run_has_its_answer_and_its_limits(tracked):
    data, accept = tracked.run.data, tracked.report["accept"]
    assert data.tags["accept"] == accept["answer"]
    logged = {key: value for key, value in data.metrics.items() if key.startswith("accept/")}
    assert sum(key.endswith("/limit") for key in logged) == len(accept["limits"]) > 0
    assert sorted(value for key, value in logged.items() if key.endswith("/limit")) == pytest.approx(
        sorted(limit["limit"] for limit in accept["limits"])
    )


def test_a_run_has_a_description_a_source_and_a_user(tracked):
    from fairquant_mlflow.judged import description

    tags = tracked.run.data.tags
    assert tags["mlflow.note.content"] == description(tracked.report)
    assert tags["mlflow.source.type"] == "LOCAL"
    assert Path(tags["mlflow.source.name"]) == tracked.folder / "recipe.yaml"
    assert Path(tags["mlflow.source.name"]).exists()
    assert tags["mlflow.user"]


def test_what_the_caller_has_open_in_mlflow_stays_open(callers_store, another_store):
    import mlflow

    other = another_store("other.db")
    with mlflow.start_run() as own:
        fairquant.run(write_recipe(tracking={"mlflow": other, "experiment": "another"}))
        assert mlflow.active_run().info.run_id == own.info.run_id
        assert mlflow.get_tracking_uri() == callers_store
    assert mlflow.get_run(own.info.run_id).data.metrics == {}
    assert mlflow.get_run(own.info.run_id).outputs.model_outputs == []
    client = mlflow.MlflowClient(other)
    (run,) = client.search_runs([client.get_experiment_by_name("another").experiment_id])
    assert len(run.outputs.model_outputs) == 1
    assert not Path("mlflow.db").exists()


def test_a_server_that_is_down_costs_a_warning_and_nothing_else():
    display = Recorded()
    start = time.monotonic()
    result = fairquant.run(write_recipe(tracking={"mlflow": "http://127.0.0.1:9"}), display=display)
    assert result.report["bits"]["average"] <= 2.5
    warnings = [text for text in display.messages if "MLflow" in text]
    assert len(warnings) == 1
    assert "cannot be reached" in warnings[0]
    assert time.monotonic() - start < 120


@pytest.fixture
def run(registry, tmp_path) -> RunInfo:
    """A run whose recipe asks for system metrics."""
    tracking = {"mlflow": "sqlite:///mlflow.db", "system_metrics": True}
    return RunInfo(read_recipe(write_recipe(tracking=tracking), registry=registry), tmp_path / "run", "run")


def test_a_run_is_tracked_where_psutil_is_missing(client, run, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs psutil: pip install .*system-metrics"):
        listener.start(run)
    listener.epoch(run, "quantized", 1, {"loss": 0.5})
    assert client.metrics["run-1"] == {"quantized/loss": 0.5}


def test_the_machine_is_watched_until_the_run_fails(client, run, monkeypatch):
    events = []
    monkeypatch.setattr(machine, "watch", lambda *given: events.append(("watch", *given)))
    monkeypatch.setattr(machine, "stop", lambda run_id: events.append(("stop", run_id, client.status.get(run_id))))
    listener.start(run)
    listener.fail(run, ValueError("broken"))
    listener.start(run)
    assert events == [
        ("watch", "run-1", client.tracking_uri, False), ("stop", "run-1", None), ("watch", "run-1", client.tracking_uri, True),
    ]  # fmt: skip
    assert client.runs["run-1"]["error"] == "ValueError: broken"


def test_a_run_in_memory_names_the_function_that_made_it(client, run):
    from dataclasses import replace

    from fairquant.data.in_memory import IN_MEMORY

    given = SimpleNamespace(name=IN_MEMORY, to_dict=lambda: {"name": IN_MEMORY})
    recipe = replace(run.recipe, dataset=given, tracking=replace(run.recipe.tracking, system_metrics=False))
    listener.start(RunInfo(recipe, run.folder, run.name))
    assert client.runs["run-1"]["mlflow.source.name"] == "fairquant.quantize"


LIMIT = {
    "name": "sensitivity of MEL in 'male'", "kind": "loss", "limit": 0.05, "answer": "FAIL", "value": 0.11, "low": 0.06,
    "high": 0.2, "images": 40, "more_images": None, "left_out": 0,
}  # fmt: skip


def test_the_answer_is_a_tag_and_each_limit_a_metric(client, run, monkeypatch):
    from helpers.reports import judged_report

    monkeypatch.setattr(machine, "watch", lambda *given: None)
    monkeypatch.setattr(listener, "log_dataset", lambda *given: SimpleNamespace(name="lesions", digest="f"))
    monkeypatch.setattr(listener, "log_model", lambda *given: None)
    listener.start(run)
    listener.finish(run, judged_report(LIMIT, answer="FAIL"))
    tags, metrics = client.runs["run-1"], client.metrics["run-1"]
    assert tags["accept"] == "FAIL"
    assert tags["mlflow.note.content"].startswith("**FAIL: sensitivity of MEL in 'male' lost 11.0 points")
    assert metrics["accept/sensitivity of MEL in male"] == 0.11
    assert metrics["accept/sensitivity of MEL in male/limit"] == 0.05
    assert client.status["run-1"] == "FINISHED"
