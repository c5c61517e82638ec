"""The model of a run: logged, served, registered; not for a caller's own nn.Module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fairquant_mlflow import models
from fairquant_mlflow.models import EXAMPLE, log_model, requirements
from fairquant_mlflow.served import PREDICTED, open_served
from helpers.artifacts import saved
from helpers.reports import judged_report


@pytest.fixture
def model(tracked):
    (output,) = tracked.run.outputs.model_outputs
    return tracked.client.get_logged_model(output.model_id)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_the_logged_model_belongs_to_its_run_and_has_its_metrics(tracked, model):
    assert model.status == "READY"
    assert model.source_run_id == tracked.run.info.run_id
    assert model.tags["sha256"] == tracked.report["artifact"]["sha256"]
    measured = {metric.key: metric for metric in model.metrics}
    assert measured["accuracy"].value == pytest.approx(tracked.report["metrics"]["accuracy"]["value"])
    assert measured["accuracy"].dataset_name == "synthetic-lesions"


def test_its_folder_has_a_signature_a_small_example_and_pinned_requirements_and_no_pickle(tracked, model):
    import mlflow

    place = Path(mlflow.artifacts.download_artifacts(model.artifact_location))
    info = mlflow.models.Model.load(str(place))
    assert info.signature.inputs.to_dict() == [
        {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": (-1, 32, 32, 3)}}
    ]
    assert info.signature.outputs.input_names() == [*tracked.report["dataset"]["classes"], PREDICTED]
    files = {file.name for file in place.rglob("*")}
    assert "model.safetensors" in files
    assert not {name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth"))}
    example = (place / EXAMPLE).read_text()
    assert np.array(json.loads(example)["inputs"]).shape == (1, 32, 32, 3)
    assert len(example) < 5 * 32 * 32 * 3
    wanted = (place / "requirements.txt").read_text().splitlines()
    assert f"fairquant=={metadata.version('fairquant')}" in wanted
    assert wanted == requirements()


def test_requirements_leave_out_labels_that_no_index_has(monkeypatch):
    def version(name):
        if name == "fairquant":
            raise metadata.PackageNotFoundError
        return "2.8.0+cpu"

    monkeypatch.setattr(models, "version", version)
    assert requirements()[:3] == ["fairquant", "mlflow==2.8.0", "torch==2.8.0"]


def test_mlflow_serves_the_runs_model(tracked, pixels, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps({"inputs": pixels.tolist()}))
    command = [
        sys.executable, "-m", "mlflow", "models", "predict", "-m", f"runs:/{tracked.run.info.run_id}/model",
        "--env-manager", "local", "-i", "in.json", "-o", "out.json",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracked.store}
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr
    served = json.loads((tmp_path / "out.json").read_text())["predictions"]
    expected = open_served(tracked.folder / "model.safetensors").predict(pixels)
    assert [row[PREDICTED] for row in served] == list(expected[PREDICTED])
    for name in tracked.report["dataset"]["classes"]:
        assert [row[name] for row in served] == pytest.approx(list(expected[name]), abs=1e-6)


def test_the_model_can_be_registered_and_loaded_from_the_registry(model, pixels, callers_store):
    import mlflow

    version = mlflow.register_model(model.model_uri, "lesions")
    table = mlflow.pyfunc.load_model(f"models:/lesions/{version.version}").predict(pixels)
    assert version.source == model.model_uri
    assert len(table) == 3


def test_a_model_from_the_callers_own_module_is_not_logged_and_a_tag_says_so(client, strange, tmp_path):
    from fairquant_paper.baq import Baq

    path, *_ = saved(tmp_path, strange, Baq())
    client.runs["run"] = {}
    assert log_model(client, "run", path, judged_report()) is None
    assert client.runs["run"] == {"model": "not logged: made from your own nn.Module (Strange), which the file lacks"}


def test_a_server_without_logged_models_costs_a_tag(client, untrained_artifact):
    client.runs["run"] = {}  # this client has no create_logged_model
    client.get_run = lambda run: SimpleNamespace(info=SimpleNamespace(experiment_id="1"))
    assert log_model(client, "run", untrained_artifact, judged_report()) is None
    assert client.runs["run"]["model"].startswith("not logged: AttributeError")


def test_a_model_that_cannot_be_stored_is_marked_as_failed(client, untrained_artifact):
    def full(model, folder):
        raise OSError("disk full")

    ended = []
    stored = SimpleNamespace(model_id="m-1", artifact_location="x", source_run_id="run")
    client.runs["run"] = {}
    client.get_run = lambda run: SimpleNamespace(info=SimpleNamespace(experiment_id="1"))
    client.create_logged_model = lambda *given, **more: stored
    client.log_model_artifacts = full
    client.finalize_logged_model = lambda model, status: ended.append((model, status))
    assert log_model(client, "run", untrained_artifact, judged_report()) is None
    assert ended == [("m-1", "FAILED")]
    assert client.runs["run"]["model"] == "not logged: OSError: disk full"
