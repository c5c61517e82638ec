"""Where the store is, what its experiments show, and how values are written."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

from fairquant_mlflow.store import About, client_of, experiment_of, log_values, origin, safe_name


def recipe_of(store, experiment):
    return SimpleNamespace(tracking=SimpleNamespace(mlflow=store, experiment=experiment), name="lesions", demo=False)


def test_a_store_beside_the_caller_stays_there_when_the_caller_moves(tmp_path, monkeypatch):
    from fairquant.cli.ui import views

    recipe = recipe_of("sqlite:///mlflow.db", "here")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert views("sqlite:///mlflow.db", "http://127.0.0.1:5000") == {}
        assert experiment_of(client_of(recipe), recipe) == "1"
        assert (tmp_path / name / "mlflow.db").exists()
        assert list(views("sqlite:///mlflow.db", "http://127.0.0.1:5000")) == ["here"]


def test_files_lie_beside_the_database_wherever_the_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = recipe_of(f"sqlite:///{tmp_path}/mlflow.db", "lesions")
    client = client_of(recipe)
    experiment = client.get_experiment(experiment_of(client, recipe))
    assert experiment.artifact_location == (tmp_path / "mlruns" / "lesions").as_uri()


def test_the_shared_view_shows_columns_that_runs_have(tracked):
    from fairquant.cli.ui import views

    experiment = tracked.client.get_experiment_by_name("tiny")
    address = "http://127.0.0.1:5001"
    assert views(tracked.store, address) == {
        "tiny": f"{address}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=fairquant"
    }
    columns = json.loads(experiment.tags["mlflow.sharedViewState.fairquant"])["selectedColumns"]
    data = tracked.run.data
    logged = {f"metrics.`{key}`" for key in data.metrics} | {f"tags.`{key}`" for key in data.tags}
    of_others = {
        "metrics.`validation/accuracy`",
        "metrics.`validation/worst-group-accuracy`",
        "tags.`state`",
    }  # a study's
    assert {name for name in columns if name not in logged} == of_others
    assert "tags.`accept`" in columns


def test_values_without_a_number_are_not_logged_and_names_are_made_acceptable(client):
    client.runs["run"] = {}
    log_values(client, "run", {"accuracy/<60": 0.7, "unknown": None, "undefined": math.nan})
    assert list(client.metrics["run"].values()) == [0.7]
    assert next(iter(client.metrics["run"])).startswith("accuracy/below 60 ")
    assert safe_name("a/b c-d_e.f") == "a/b c-d_e.f"


def test_names_are_made_safe_one_to_one():
    names = [
        "<60",
        "=60",
        ">60",
        "_60",
        "below 60",
        "x" * 240 + "f",
        "x" * 240 + "m",
        "quantize.pin.layer1.*",
        "a//b",
        "a/../b",
        "../b",
        "/b",
        "ä",
    ]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(len(name) <= 240 for name in safe)
    assert safe[3:5] == ["_60", "below 60"]
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    for name in safe:
        _validate_metric_name(name)
        _validate_param_name(name)


def test_values_name_what_they_were_measured_on():
    logged = []
    client = SimpleNamespace(log_batch=lambda run, metrics: logged.extend(metrics))
    log_values(client, "run", {"accuracy": 0.5}, about=About(SimpleNamespace(name="lesions", digest="abc"), "m-1"))
    (metric,) = logged
    assert (metric.dataset_name, metric.dataset_digest, metric.model_id) == ("lesions", "abc", "m-1")


def test_a_user_without_a_name_is_left_out(monkeypatch):
    import getpass

    def nameless():
        raise OSError("no name")

    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    named = origin("recipe.yaml")
    assert named == {"mlflow.source.name": "recipe.yaml", "mlflow.source.type": "LOCAL", "mlflow.user": "ada"}
    monkeypatch.setattr(getpass, "getuser", nameless)
    assert origin("recipe.yaml") == {key: value for key, value in named.items() if key != "mlflow.user"}
