"""System metrics are logged while a run lasts, and no longer."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from fairquant_mlflow import machine
from helpers.recipes import write_recipe

import fairquant


@pytest.fixture
def monitors(monkeypatch) -> list:
    """MLflow's monitor replaced by one that records what is done with it."""
    made = []

    class Monitor:
        def __init__(self, run_id, resume_logging, tracking_uri):
            self.given, self.events = (run_id, resume_logging, tracking_uri), []
            made.append(self)

        def start(self):
            self.events.append("start")

        def finish(self):
            self.events.append("finish")

    module = ModuleType("mlflow.system_metrics.system_metrics_monitor")
    module.SystemMetricsMonitor = Monitor
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(machine, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(machine, "_monitors", {})
    return made


def test_each_run_has_a_monitor_that_ends_once(monitors):
    machine.watch("a", "sqlite:///ml.db", resumed=True)
    machine.watch("b", "sqlite:///ml.db", resumed=False)
    assert [each.given for each in monitors] == [("a", True, "sqlite:///ml.db"), ("b", False, "sqlite:///ml.db")]
    machine.stop("a")
    machine.stop("a")
    assert [each.events for each in monitors] == [["start", "finish"], ["start"]]


def test_a_run_begun_again_has_one_monitor(monitors):
    machine.watch("a", "sqlite:///ml.db", resumed=False)
    machine.watch("a", "sqlite:///ml.db", resumed=True)
    assert [each.events for each in monitors] == [["start", "finish"], ["start"]]


def test_without_psutil_the_error_names_it(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs psutil"):
        machine.watch("a", "sqlite:///ml.db", resumed=False)


def test_a_run_logs_them_until_it_ends(another_store, monkeypatch):
    pytest.importorskip("psutil")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    store = another_store("ml.db")
    fairquant.run(write_recipe(tracking={"mlflow": store, "experiment": "watched", "system_metrics": True}))
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("watched").experiment_id])
    assert run.info.status == "FINISHED"
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
