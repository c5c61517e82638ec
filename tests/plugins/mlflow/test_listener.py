"""MLflow sees every run; a server that is down costs a warning."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from helpers.recipes import TINY

import fairquant
from fairquant.runs.folder import Quiet


class Recorded(Quiet):
    def __init__(self):
        self.messages = []

    def say(self, text):
        self.messages.append(text)


def recipe(store):
    with open("tiny.yaml", "w") as file:
        yaml.safe_dump({**TINY, "tracking": {"mlflow": store}}, file)
    return "tiny.yaml"


def test_a_run_is_in_the_store(tmp_path):
    from mlflow.tracking import MlflowClient

    result = fairquant.run(recipe("sqlite:///mlflow.db"))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "fq-baq-2.5bit-seed1"
    assert run.info.status == "FINISHED"
    assert run.data.params["budget.average_bits"] == "2.5"
    assert run.data.params["allocator.name"] == "minimax"
    assert run.data.metrics["accuracy"] == pytest.approx(result.report["metrics"]["accuracy"]["value"])
    assert "accuracy/tones IV-VI" in run.data.metrics
    assert run.data.tags["dataset.fingerprint"] == result.report["dataset"]["fingerprint"]
    assert run.data.tags["version.fairquant"] == fairquant.__version__
    assert len(client.get_metric_history(run.info.run_id, "quantized/loss")) == 2
    from fairquant.cli.ui import views

    assert views("sqlite:///mlflow.db", "http://127.0.0.1:5001") == {
        "tiny": f"http://127.0.0.1:5001/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=fairquant"
    }
    columns = json.loads(experiment.tags["mlflow.sharedViewState.fairquant"])["selectedColumns"]
    logged = {f"metrics.`{key}`" for key in run.data.metrics} | {f"tags.`{key}`" for key in run.data.tags}
    assert [name for name in columns if name not in logged] == [
        "metrics.`validation/accuracy`", "metrics.`validation/worst-group-accuracy`", "tags.`state`",  # a study's
    ]  # fmt: skip
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names >= {"report.html", "bit_plan.csv", "model.safetensors", "report.json"}


def test_a_server_that_is_down_costs_a_warning_and_nothing_else():
    display = Recorded()
    start = time.monotonic()
    result = fairquant.run(recipe("http://127.0.0.1:9"), display=display)
    assert result.report["bits"]["average"] <= 2.5
    warnings = [text for text in display.messages if "MLflow" in text]
    assert len(warnings) == 1
    assert "cannot be reached" in warnings[0]
    assert time.monotonic() - start < 120


def test_a_store_beside_the_caller_stays_there_when_the_caller_moves(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from fairquant_mlflow.listener import client_of, experiment_of

    from fairquant.cli.ui import views

    named = SimpleNamespace(mlflow="sqlite:///mlflow.db", experiment="here")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert views(named.mlflow, "http://127.0.0.1:5000") == {}
        recipe = SimpleNamespace(tracking=named)
        assert experiment_of(client_of(recipe), recipe) == "1"
        assert (tmp_path / name / "mlflow.db").exists()
        assert list(views(named.mlflow, "http://127.0.0.1:5000")) == ["here"]


def test_files_lie_beside_the_database_wherever_the_command_is_given(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from fairquant_mlflow.listener import client_of, experiment_of

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tracking = SimpleNamespace(mlflow=f"sqlite:///{tmp_path}/mlflow.db", experiment="lesions")
    recipe = SimpleNamespace(tracking=tracking, name="lesions", demo=False)
    client = client_of(recipe)
    experiment = client.get_experiment(experiment_of(client, recipe))
    assert experiment.artifact_location == (tmp_path / "mlruns" / "lesions").as_uri()
