"""A comparison's cells in a database: many workers, one killed, machines without a disk in common, failures that pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest

import fairquant
from fairquant.errors import UserError
from fairquant.report.comparison import Subject
from fairquant.runs.folder import Quiet
from fairquant.study import queue, shared
from fairquant.study.grid import Job, make_cells
from fairquant.study.shared import SharedGrid
from fairquant.study.storage import open_storage

SMALL = [
    "tracking.mlflow=null",
    "train.epochs=2",
    "dataset.images=120",
    "model.name=test_resnet",
    "model.image_size=32",
]
WORKER = """
import sys
from fairquant.study import queue, compare
queue.HEARTBEAT_SECONDS = (1, 3)
if __name__ == "__main__":
    compare("quickstart", *sys.argv[3:], methods=["fp32", "uniform-3", "uniform-2"], seeds=[0, 1], demo=True,
            storage=sys.argv[1], runs=sys.argv[2])
"""


def only_study(storage) -> optuna.Study:
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def results(runs) -> dict[str, object]:
    (file,) = runs.glob("quickstart-demo/compare-*/compare.json")
    content = json.loads(file.read_text())
    return {key: value for key, value in content.items() if key != "runs"}


def test_four_workers_without_a_common_disk_and_one_of_them_is_killed(postgresql, tmp_path):
    """Each has a folder of its own; in the end all that live have the same table, equal to one made alone."""
    (tmp_path / "worker.py").write_text(WORKER)
    places = [tmp_path / f"runs{number}" for number in range(4)]
    workers = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "worker.py"), postgresql, str(place), *SMALL],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for place in places
    ]  # fmt: skip
    storage, victim, deadline = open_storage(postgresql, tmp_path), None, time.time() + 200
    while victim is None and time.time() < deadline and all(worker.poll() is None for worker in workers):
        for summary in optuna.get_all_study_summaries(storage):
            for trial in optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False):
                if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") in [
                    worker.pid for worker in workers
                ]:
                    victim = (trial.number, trial.user_attrs["worker"])
        time.sleep(0.02)
    assert victim is not None
    os.kill(victim[1], signal.SIGKILL)
    outputs = [worker.communicate(timeout=500) for worker in workers]
    assert sorted(worker.returncode for worker in workers) == [-9, 0, 0, 0], outputs
    trials = only_study(storage).get_trials(deepcopy=False)
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert trials[victim[0]].user_attrs["worker"] != victim[1]
    done = [place for place, worker in zip(places, workers, strict=True) if worker.returncode == 0]
    alone = tmp_path / "alone"
    fairquant.compare(
        "quickstart", *SMALL, methods=["fp32", "uniform-3", "uniform-2"], seeds=[0, 1], demo=True, runs=alone
    )
    assert all(results(place) == results(alone) for place in done)
    ran = [len(list(place.glob("quickstart-demo/*-seed*/report.json"))) for place in done]
    assert sum(ran) <= 6
    assert max(ran) < 6


def grid(tmp_path, place, methods=("uniform-4-ptq", "uniform-2-ptq"), **more) -> SharedGrid:
    cells = make_cells([Subject("quickstart")], methods, [], [0])
    return SharedGrid(**{
        "cells": tuple(cells), "job": Job(overrides=(*SMALL, "baseline.epochs=1"), demo=True, runs=place),
        "database": f"sqlite:///{tmp_path}/queue.db", "name": "compared", "folder": place / "compare", "patience": 3.0, **more,
    })  # fmt: skip


def run(made: SharedGrid) -> list:
    return made.run(1, lambda cell: Quiet(), lambda outcome: None)


def test_a_worker_that_comes_later_has_the_files_of_the_runs_elsewhere(tmp_path):
    first = run(grid(tmp_path, tmp_path / "one"))
    assert all(outcome.folder is not None and outcome.folder.parent.name == "quickstart-demo" for outcome in first)
    (tmp_path / "one").rename(tmp_path / "gone")
    for before, outcome in zip(first, run(grid(tmp_path, tmp_path / "two")), strict=True):
        assert outcome.report == before.report
        assert outcome.folder is not None
        assert outcome.folder.is_relative_to(tmp_path / "two" / "compare" / "cells")
        here = np.load(outcome.folder / "predictions.npz")["logits"]
        there = np.load(tmp_path / "gone" / before.folder.relative_to(tmp_path / "one") / "predictions.npz")["logits"]
        assert np.array_equal(here, there)
    assert not list((tmp_path / "two").glob("quickstart-demo/*"))


def test_what_failed_is_tried_again_when_the_command_is_given_again_and_a_budget_that_cannot_be_met_is_not(
    tmp_path, monkeypatch
):
    tried = []

    def fails(cell, job, display):
        tried.append(cell.method)
        raise UserError("no such camera") if cell.method == "uniform-4-ptq" else shared.Infeasible("2 bits exceed it")

    with monkeypatch.context() as patched:
        patched.setattr(shared, "finish_cell", fails)
        one, two = run(grid(tmp_path, tmp_path / "runs"))
        assert (one.problem, two.problem) == ("no such camera", "cannot meet the budget: 2 bits exceed it")
        run(grid(tmp_path, tmp_path / "runs"))
        assert tried == ["uniform-4-ptq", "uniform-2-ptq", "uniform-4-ptq"]
    one, two = run(grid(tmp_path, tmp_path / "runs"))
    assert one.report is not None
    assert one.problem is None
    assert two.report is None


def test_a_machine_that_fails_gives_its_cell_back_and_leaves(tmp_path, monkeypatch):
    def fails(cell, job, display):
        raise shared.MachineFailed("runs: No space left on device. The run can be resumed")

    with monkeypatch.context() as patched:
        patched.setattr(shared, "finish_cell", fails)
        with pytest.raises(shared.MachineFailed, match="No space left"):
            run(grid(tmp_path, tmp_path / "full"))
    states = [t.state.name for t in only_study(open_storage(f"sqlite:///{tmp_path}/queue.db", tmp_path)).get_trials()]
    assert states == ["WAITING", "WAITING"]
    assert all(outcome.report is not None for outcome in run(grid(tmp_path, tmp_path / "roomy")))


def test_two_that_queue_the_same_cells_at_the_same_moment_run_each_once(tmp_path, monkeypatch):
    made = grid(tmp_path, tmp_path / "runs")
    study = made._open()
    made._enqueue(study)
    for number in range(2):  # what the other worker queues, which did not see these yet
        study.enqueue_trial({}, user_attrs={shared.CELL: number, shared.ATTEMPT: 0})
    ran = []
    whole = shared.finish_cell
    monkeypatch.setattr(shared, "finish_cell", lambda cell, *rest: ran.append(cell.method) or whole(cell, *rest))
    outcomes = run(made)
    assert ran == ["uniform-4-ptq", "uniform-2-ptq"]
    assert all(outcome.report is not None for outcome in outcomes)


def test_jobs_side_by_side_on_one_database(tmp_path):
    done = []
    outcomes = grid(tmp_path, tmp_path / "runs").run(2, lambda cell: Quiet(), done.append)
    assert [outcome.cell.method for outcome in outcomes] == ["uniform-4-ptq", "uniform-2-ptq"]
    assert all(outcome.report is not None for outcome in outcomes)
    assert sorted(each.cell.method for each in done) == ["uniform-2-ptq", "uniform-4-ptq"]
    assert queue.HEARTBEAT_SECONDS == (10, 30)


def test_a_database_that_cannot_be_reached_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^--storage postgresql\+psycopg://u:...@127.0.0.1:9/x: cannot be reached"):
        run(grid(tmp_path, tmp_path / "runs", database="postgresql+psycopg://u:PW@127.0.0.1:9/x"))
