"""Where trials are kept: many workers on PostgreSQL, one killed; a journal; an address that does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import optuna
import pytest
from helpers.database import switch
from helpers.studies import HEAD, SEARCH, SMALL, write

import fairquant
from fairquant.errors import UserError
from fairquant.recipe.search import PRUNERS, SAMPLERS, Objective, Search
from fairquant.study.search import search
from fairquant.study.storage import StaleTrials, open_storage, open_study, worker_lock

WORKER = """
import sys
from fairquant.study import queue, search
queue.HEARTBEAT_SECONDS = (1, 3)
if __name__ == "__main__":
    print(search(sys.argv[1], trials=8, storage=sys.argv[2], runs=sys.argv[3]))
"""


def test_four_workers_on_postgresql_and_one_of_them_is_killed(postgresql, tmp_path):
    recipe = write(HEAD + SMALL + SEARCH)
    fairquant.run(recipe, "search=null", runs=tmp_path / "runs")  # the baseline, once
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, str(tmp_path / "worker.py"), recipe, postgresql, str(tmp_path / "runs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    from fairquant.study.storage import open_storage

    storage = open_storage(postgresql, tmp_path)
    import optuna

    deadline, victim = time.time() + 100, None
    while (
        victim is None and time.time() < deadline and all(worker.poll() is None for worker in workers)
    ):  # kill a worker that is in the middle of a trial
        for summary in optuna.get_all_study_summaries(storage):
            for trial in optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False):
                owner = trial.user_attrs.get("worker")
                began = trial.state.name == "RUNNING" and "overrides" in trial.user_attrs  # its values are drawn
                if began and owner in [worker.pid for worker in workers]:
                    victim = (trial.number, owner)
        time.sleep(0.02)
    assert victim is not None
    os.kill(victim[1], signal.SIGKILL)
    outputs = [worker.communicate(timeout=300) for worker in workers]
    codes = [worker.returncode for worker in workers]
    assert sorted(codes) == [-9, 0, 0, 0], outputs
    folder = next((tmp_path / "runs" / "searched").glob("study-*"))
    study = optuna.load_study(study_name=folder.name, storage=storage)
    trials = [t for t in study.get_trials(deepcopy=False) if "superfluous" not in t.user_attrs]
    assert not [t for t in trials if t.state.name in ("RUNNING", "WAITING")]
    complete = [t for t in trials if t.state.name == "COMPLETE" or t.user_attrs.get("problem")]
    assert len(complete) == 8, [(t.number, t.state.name, t.user_attrs.get("problem")) for t in trials]
    killed = next(t for t in trials if t.number == victim[0])
    assert killed.state.name == "COMPLETE"  # under its own number, by another worker
    assert killed.user_attrs["worker"] != victim[1]
    assert len(trials) == 8
    results = json.loads((folder / "study.json").read_text())["results"]
    assert results["front"]


def finished_trials(storage: object) -> list[tuple[int, str, dict[str, object], list[float]]]:
    import optuna

    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).get_trials(deepcopy=False)
    return [(trial.number, trial.state.name, trial.params, trial.values) for trial in trials]


def test_a_database_that_stops_and_comes_back_costs_nothing_but_time(postgresql, tmp_path):
    recipe = write(HEAD + SMALL + SEARCH)
    search(recipe, trials=4, runs=tmp_path / "reference")
    expected = finished_trials(open_storage(None, next((tmp_path / "reference").glob("searched/study-*"))))
    command = [
        sys.executable,
        "-m",
        "fairquant",
        "study",
        recipe,
        "--trials",
        "4",
        "--runs",
        str(tmp_path / "runs"),
        "--storage",
        postgresql,
    ]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 150
    while time.time() < deadline and len(list((tmp_path / "runs").glob("searched/*/log.txt"))) < 2:
        time.sleep(0.05)
    switch(postgresql, on=False)
    time.sleep(4)
    switch(postgresql, on=True)
    _, errors = worker.communicate(timeout=250)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors
    assert finished_trials(open_storage(postgresql, tmp_path)) == expected


def test_a_database_that_does_not_come_back_is_one_line(postgresql, tmp_path):
    recipe = write(HEAD + SMALL + SEARCH)
    command = [sys.executable, "-m", "fairquant", "study", recipe, "--trials", "4", "--runs", str(tmp_path / "runs"),
               "--storage", postgresql, "--patience", "3"]  # fmt: skip
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 150
    while time.time() < deadline and not list((tmp_path / "runs").glob("searched/*/log.txt")):
        time.sleep(0.05)
    switch(postgresql, on=False)
    _, errors = worker.communicate(timeout=200)
    switch(postgresql, on=True)
    assert worker.returncode == 2, errors
    assert "Traceback" not in errors
    assert "no answer for" in errors.strip().splitlines()[-1]


def test_a_journal_that_a_kill_has_cut_off_is_repaired_and_a_damaged_one_named(tmp_path):
    from fairquant.study.storage import repair_journal

    file = tmp_path / "journal.log"
    file.write_bytes(b'{"a": 1}\n{"b": 2}\n{"c": ')
    repair_journal(tmp_path)
    assert file.read_bytes() == b'{"a": 1}\n{"b": 2}\n'
    repair_journal(tmp_path)
    assert file.read_bytes() == b'{"a": 1}\n{"b": 2}\n'
    file.write_bytes(b'{"a": 1}\n{"b": \n{"c": 3}\n')
    with pytest.raises(UserError, match=r"journal.log:2: damaged"):
        repair_journal(tmp_path)


def test_a_dead_worker_of_a_journal_is_taken_back_when_the_command_is_given_again(tmp_path):
    recipe = write(HEAD + SMALL + SEARCH)
    command = [sys.executable, "-m", "fairquant", "study", recipe, "--trials", "3", "--runs", str(tmp_path / "runs")]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 100
    while not list((tmp_path / "runs").glob("searched/*/log.txt")) and worker.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    results = json.loads(next((tmp_path / "runs").glob("searched/study-*/study.json")).read_text())["results"]
    finished = [trial for trial in results["trials"] if trial["validation"]]
    assert len(finished) == 3
    assert len({trial["folder"] for trial in finished}) == 3


def test_a_storage_that_cannot_be_reached_is_reported():
    recipe = write(HEAD + SMALL + SEARCH)
    with pytest.raises(UserError, match=r"--storage postgresql\+psycopg://me:\.\.\.@127.0.0.1:1/x: cannot be reached"):
        search(recipe, trials=1, storage="postgresql+psycopg://me:secret@127.0.0.1:1/x")


SECTION = Search(parameters=(), objectives=(Objective("accuracy", "maximize"), Objective("bits", "minimize")))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_of_a_recipe_makes_a_study(tmp_path, sampler):
    storage = open_storage(None, tmp_path)
    study = open_study(storage, "s", replace(SECTION, sampler=sampler), seed=1)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_of_a_recipe_makes_a_study_and_the_same_name_is_the_same_study(tmp_path, pruner):
    storage, section = open_storage(None, tmp_path), replace(SECTION, objectives=SECTION.objectives[:1], pruner=pruner)
    open_study(storage, "s", section, seed=1).enqueue_trial({})
    assert len(open_study(open_storage(None, tmp_path), "s", section, seed=2).trials) == 1


def test_a_worker_knows_whether_it_was_the_first_here(tmp_path):
    with worker_lock(tmp_path) as first, worker_lock(tmp_path) as second:
        assert (first, second) == (True, False)
    with worker_lock(tmp_path) as again:
        assert again
    assert not list((tmp_path / ".workers").glob("*.lock"))


def test_a_lock_that_a_dead_worker_left_is_removed(tmp_path):
    (tmp_path / ".workers").mkdir()
    (tmp_path / ".workers" / "dead.lock").touch()
    with worker_lock(tmp_path) as alone:
        assert alone
    assert not (tmp_path / ".workers" / "dead.lock").exists()


def test_a_trial_whose_worker_was_killed_before_its_first_heartbeat_returns_to_the_queue(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", tmp_path, 1, 2)
    study = optuna.create_study(storage=storage)
    study.ask()  # and the worker is killed
    alive = study.ask()
    storage.record_heartbeat(alive._trial_id)
    stale = StaleTrials(grace=0.2)
    stale.return_to_queue(study)
    time.sleep(0.3)
    stale.return_to_queue(study)
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    assert states == ["WAITING", "RUNNING"]
    assert study.ask().number == 0
