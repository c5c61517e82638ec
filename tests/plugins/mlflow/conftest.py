"""A tracked run that several files look at, and an MLflow client that remembers what it is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.recipes import write_recipe
from helpers.shared import made_once

import fairquant


@dataclass
class Tracked:
    """A run of the tiny recipe and its place in the store; change nothing of them."""

    folder: Path
    report: dict
    store: str

    @property
    def client(self):
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.store)

    @property
    def run(self):
        (run,) = self.client.search_runs([self.client.get_experiment_by_name("tiny").experiment_id])
        return run


@pytest.fixture(scope="session")
def tracked(tmp_path_factory) -> Tracked:
    def make(folder: Path) -> None:
        result = fairquant.run(write_recipe(tracking={"mlflow": "sqlite:///mlflow.db"}), runs=folder / "runs")
        (folder / "folder.txt").write_text(str(result.folder))

    place = made_once(tmp_path_factory, "tracked", make)
    folder = Path((place / "folder.txt").read_text())
    return Tracked(folder, json.loads((folder / "report.json").read_text()), f"sqlite:///{place}/mlflow.db")


@pytest.fixture
def another_store(tracked, tmp_path) -> Callable[[str], str]:
    """A copy of that store's database, which is faster than a new one; returns its address."""

    def copy(name: str) -> str:
        shutil.copy(tracked.store.removeprefix("sqlite:///"), tmp_path / name)
        return f"sqlite:///{tmp_path}/{name}"

    return copy


@pytest.fixture
def callers_store(another_store, monkeypatch) -> Iterator[str]:
    """A store that the caller uses through MLflow's global functions."""
    import mlflow

    before, store = (mlflow.get_tracking_uri(), mlflow.get_registry_uri()), another_store("own.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)  # set_tracking_uri changes it: put back at the end
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    yield store
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@dataclass
class Client:
    """Runs by id: their tags, status, metrics and files. Ids are counted: run-1, run-2."""

    runs: dict[str, dict[str, str]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    tracking_uri: str = "sqlite:///none.db"

    def create_run(self, experiment, tags, run_name=None):
        run = f"run-{len(self.runs) + 1}"
        self.runs[run] = {**tags, **({} if run_name is None else {"mlflow.runName": run_name})}
        return SimpleNamespace(info=SimpleNamespace(run_id=run))

    def set_terminated(self, run, status):
        if run not in self.runs:
            raise KeyError(run)
        self.status[run] = status

    def set_tag(self, run, key, value):
        self.runs[run][key] = value

    def get_run(self, run):
        return SimpleNamespace(
            data=SimpleNamespace(tags=dict(self.runs[run])),
            info=SimpleNamespace(status=self.status.get(run, "RUNNING")),
        )

    def log_batch(self, run, metrics=(), params=()):
        self.metrics.setdefault(run, {}).update({metric.key: metric.value for metric in metrics})

    def log_artifact(self, run, path):
        self.files.setdefault(run, []).append(Path(path).name)


@pytest.fixture
def client(monkeypatch) -> Client:
    """In place of the client of a store, in every module that asks for one."""
    from fairquant_mlflow import listener, parents, trials

    own = Client()
    for module in (listener, parents, trials):
        monkeypatch.setattr(module, "client_of", lambda recipe: own)
        monkeypatch.setattr(module, "experiment_of", lambda client, recipe: "1")
    return own
