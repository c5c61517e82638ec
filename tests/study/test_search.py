"""fairquant study: the section is checked, every trial runs once, the front is right, test is read at the end only."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fairquant
from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.search import Objective, Parameter
from fairquant.study.search import grid_points, search
from fairquant.study.summary import Trial, pareto_front

HEAD = "dataset: {name: synthetic-lesions, images: 120}\nmodel: {name: resnet10t, image_size: 32}\nmethod: fq-qat-ptq\n"
SMALL = "baseline: {epochs: 1, batch_size: 32}\ncalibration: {images: 32, batch_size: 32}\ntracking: {mlflow: null}\n"
SEARCH = (
    "search:\n"
    "  parameters:\n"
    "    budget.average_bits: {low: 1.0, high: 4.0}\n"
    "    allocator.name: [knapsack, minimax, quantile]\n"
    "    allocator.levels: {choices: [[0, 4], [1, 2]], when: {allocator.name: quantile}}\n"
    "    allocator.fractions: {choices: [[0.5, 0.5]], when: {allocator.name: quantile}}\n"
    "  objectives: {worst-group-accuracy: maximize, bits: minimize}\n"
    "  constraints: {accuracy: {at_least: baseline - 0.5}, megabytes: {at_most: 10}}\n"
    "  sampler: random\n"
)


def write(text: str, name: str = "searched.yaml") -> str:
    Path(name).write_text(text)
    return name


BAD = {
    "  paramters: {}\n": "search.paramters: unknown key. Did you mean 'parameters'?",
    "  parameters: {budget.average_bits: 3}\n": "expected a list of values or {low: ..., high: ...}, got 3",
    "  parameters: {budget.average_bits: {low: 4, high: 1}}\n": "low must be below high, got 4 and 1",
    "  parameters: {budget.average_bits: {low: 0.0, high: 1.0, log: true}}\n": "a log scale needs low above 0",
    "  parameters: {budget.averge_bits: [1, 2]}\n": "1: budget.averge_bits: budget has no option 'averge_bits'. Did you mean 'average_bits'?",
    "  parameters: {budget.average_bits: {low: 1.0, high: 9.0}}\n": "9.0: budget.average_bits: must be in (0, 8], got 9.0",
    "  parameters: {allocator.name: [knapsack, minmax]}\n": "'minmax': allocator.name: no allocator is called 'minmax'. Did you mean 'minimax'?",
    "  parameters: {regularizers.loss-gap.weight: [1]}\n": "the recipe lists no regularizer 'loss-gap'. Listed: none",
    "  objectives: {acuracy: maximize}\n": "the recipe measures no 'acuracy'. Did you mean 'accuracy'?",
    "  objectives: {accuracy: up}\n": "must be maximize or minimize, got 'up'",
    "  constraints: {megabytes: 2}\n": "expected {at_least: ...} or {at_most: ...}, got 2",
    "  constraints: {megabytes: {at_most: baseline}}\n": "the baseline has no megabytes: give a number",
    "  constraints: {accuracy: {at_least: base - 1}}\n": "expected a number or 'baseline - 0.01', got 'base - 1'",
    "  sampler: tpee\n": "'tpee' is not one of tpe, random",
    "  sampler: grid\n  parameters: {budget.average_bits: {low: 1.0, high: 2.0}}\n": "a grid needs lists of values",
    "  pruner: median\n  objectives: {accuracy: maximize, bits: minimize}\n": "trials are pruned by one objective",
    "  trials: 0\n": "must be a whole number of at least 1, got 0",
}
GOOD = {
    "parameters": "  parameters: {budget.average_bits: [2, 3]}\n",
    "objectives": "  objectives: {accuracy: maximize}\n",
}


@pytest.mark.parametrize("lines", BAD)
def test_a_bad_section_is_told_with_its_line(registry, lines):
    text = HEAD + SMALL + "search:\n" + lines + "".join(good for key, good in GOOD.items() if f"{key}:" not in lines)
    with pytest.raises(UserError) as caught:
        read_recipe(write(text), registry=registry, searching=True)
    assert BAD[lines] in str(caught.value)
    assert re.search(r"searched.yaml:\d+: search", str(caught.value)), str(caught.value)


def test_a_run_of_another_method_does_not_mind_the_section(registry):
    text = HEAD + SMALL + "regularizers: [{name: loss-gap}]\nsearch:\n" + GOOD["objectives"]
    text += "  parameters: {regularizers.loss-gap.weight: [0.1, 1.0]}\n"
    assert read_recipe(write(text), ["method=uniform-4", "metrics=[brier]"], registry=registry).method == "uniform-4"
    with pytest.raises(UserError, match="the recipe measures no 'accuracy'"):
        read_recipe(write(text), ["metrics=[brier]"], registry=registry, searching=True)


def test_a_recipe_without_the_section_says_what_it_needs():
    with pytest.raises(UserError, match="has no `search` section"):
        search("quickstart", demo=True)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    recipe = place / "searched.yaml"
    recipe.write_text(HEAD + SMALL.replace("mlflow: null", f"mlflow: 'sqlite:///{place}/ml.db'") + SEARCH)
    folder = search(recipe, trials=5, runs=place / "runs")
    return place, recipe, folder, json.loads((folder / "study.json").read_text())["results"]


def test_trials_are_ordinary_runs_that_stop_before_test_and_the_front_is_tested(studied):
    *_, results = studied
    assert len(results["trials"]) == 5
    assert {trial["state"] for trial in results["trials"]} <= {"complete", "infeasible", "failed"}
    assert results["front"]
    for trial in results["trials"]:
        run = Path(trial["folder"])
        tested = trial["number"] in results["front"]
        assert (run / "report.json").exists() == tested, trial
        assert (run / "predictions.npz").exists() == tested
        assert (trial["test"] is not None) == tested
        if trial["state"] == "complete":
            assert trial["validation"]["bits"] <= trial["parameters"]["budget.average_bits"] + 1e-9
            assert 0 < trial["validation"]["megabytes"] < 10
    conditional = [t["parameters"] for t in results["trials"]]
    assert all(("allocator.levels" in p) == (p["allocator.name"] == "quantile") for p in conditional)


def test_a_trial_gives_what_the_command_that_is_shown_gives(studied):
    place, recipe, _, results = studied
    trial = next(t for t in results["trials"] if t["number"] == results["front"][-1])
    again = fairquant.run(recipe, *trial["overrides"], "search=null", runs=place / "runs")
    assert again.was_finished
    assert str(again.folder) == trial["folder"]
    elsewhere = fairquant.run(recipe, *trial["overrides"], "search=null", runs=place / "elsewhere")
    assert elsewhere.report["bits"]["average"] == trial["test"]["bits"]
    assert elsewhere.report["metrics"]["accuracy"]["value"] == trial["test"]["accuracy"]


def test_the_page_and_the_verbs(studied, tmp_path):
    place, recipe, folder, results = studied
    page = (folder / "study.html").read_text()
    for text in ("Pareto front", "Parallel coordinates", "Slices", "Commands to reproduce them", "too few to report", "fairquant run "):
        assert text in page, text
    assert page.count("<svg") >= 4
    shown = CliRunner().invoke(app, ["study", "show", str(recipe), "--runs", str(place / "runs")])
    assert shown.exit_code == 0
    assert f"trial {results['front'][0]}:" in shown.output
    mine = tmp_path / "mine.yaml"
    written = CliRunner().invoke(app, ["study", "best", str(folder), "--to", str(mine)])
    assert written.exit_code == 0, written.output
    assert fairquant.run(mine, runs=place / "elsewhere").report["bits"]["average"] <= 4
    taken = CliRunner().invoke(app, ["study", "best", str(folder), "--to", str(mine)])
    assert "exists already" in str(taken.exception)


def test_asked_again_nothing_runs_again_and_more_trials_are_added(studied):
    place, recipe, folder, _ = studied
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("validation_only.json")}
    assert search(recipe, trials=6, runs=place / "runs") == folder
    results = json.loads((folder / "study.json").read_text())["results"]
    assert len(results["trials"]) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_mlflow_has_one_parent_and_named_trials(studied):
    from mlflow.tracking import MlflowClient

    place, *_ = studied
    client = MlflowClient(f"sqlite:///{place}/ml.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=100)
    parents = [run for run in runs if run.data.tags.get("kind") == "study"]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) >= 5
    assert all(run.info.run_name.startswith("trial-") for run in children)
    assert all(
        "validation/worst-group-accuracy" in run.data.metrics
        for run in children
        if run.data.tags["state"] == "complete"
    )
    assert {run.info.status for run in children} <= {"FINISHED", "FAILED"}


def test_a_trial_that_raises_is_recorded_and_the_study_goes_on(tmp_path, monkeypatch):
    from fairquant_fair.allocators import Knapsack

    real = Knapsack.allocate

    def breaks(self, problem):
        if problem.average_bits > 2.5:
            raise MemoryError("not enough memory")
        return real(self, problem)

    monkeypatch.setattr(Knapsack, "allocate", breaks)
    text = HEAD.replace("fq-qat-ptq", "hawq-ptq") + SMALL + (
        "search: {parameters: {budget.average_bits: [2, 3]}, objectives: {accuracy: maximize}, sampler: grid}\n"
    )  # fmt: skip
    folder = search(write(text), "importance.name=fisher")
    results = json.loads((folder / "study.json").read_text())["results"]
    assert [trial["state"] for trial in results["trials"]] == ["complete", "failed"]
    assert results["trials"][1]["problem"] == "MemoryError: not enough memory"


def test_a_hopeless_trial_is_pruned_and_shown_as_such(monkeypatch):
    import optuna

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number == 1)
    text = HEAD.replace("fq-qat-ptq", "uniform-4") + SMALL.replace("mlflow: null", "mlflow: 'sqlite:///ml.db'") + (
        "train: {epochs: 2, batch_size: 32}\nsearch: {parameters: {train.learning_rate: [1.0e-3, 1.0e-4]}, "
        "objectives: {accuracy: maximize}, pruner: median, sampler: grid}\n"
    )  # fmt: skip
    results = json.loads((search(write(text)) / "study.json").read_text())["results"]
    assert [trial["state"] for trial in results["trials"]] == ["complete", "pruned"]
    assert "others were better" in results["trials"][1]["problem"]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/ml.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.data.tags.get("state"): run.info.status for run in runs}["pruned"] == "KILLED"


def test_the_front_by_hand():
    objectives = (Objective("a", "maximize"), Objective("b", "minimize"))

    def trial(number, a, b, state="complete"):
        return Trial(number=number, state=state, parameters={}, validation={"a": a, "b": b}, folder=str(number), overrides=())

    given = [
        trial(0, 1, 5),
        trial(1, 2, 5),
        trial(2, 3, 9),
        trial(3, 2, 4),
        trial(4, 9, 1, "infeasible"),
        trial(5, 0, 3),
    ]
    assert [t.number for t in pareto_front(given, objectives)] == [5, 3, 2]
    assert [t.number for t in pareto_front(given, objectives[:1])] == [2]


def test_a_grid_leaves_out_what_does_not_apply():
    points = grid_points([
        Parameter(path="allocator.name", choices=("knapsack", "quantile")), Parameter(path="seed", choices=(1, 2)),
        Parameter(path="allocator.levels", choices=((2, 4), (1, 2)), when=(("allocator.name", "quantile"),)),
    ])  # fmt: skip
    assert len(points) == 2 + 4


# --- many workers ---

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] or [
    Path(shutil.which("initdb") or "/nowhere/initdb").parent
]


@pytest.fixture
def postgresql(tmp_path):
    """A PostgreSQL server of our own, on the loopback, for this test."""
    tools = POSTGRES[0]
    if not (tools / "initdb").exists():
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path / "pg"
    user: dict[str, object] = {}
    if os.geteuid() == 0:  # it refuses to be root
        subprocess.run(["chmod", "777", str(tmp_path)], check=True)
        for parent in tmp_path.parents:
            if parent != Path("/") and parent.stat().st_mode & 0o011 != 0o011:
                parent.chmod(parent.stat().st_mode | 0o011)
        user = {"user": "postgres"}
    quiet = {"check": True, "capture_output": True, "cwd": "/", **user}
    subprocess.run([tools / "initdb", "-D", data, "-U", "fairquant", "-A", "trust", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([tools / "pg_ctl", "-D", data, "-w", "-o", options, "-l", tmp_path / "pg.log", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://fairquant@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **{**quiet, "check": False})


WORKER = """
import sys
from fairquant.study import search
search.HEARTBEAT_SECONDS = (1, 3)
if __name__ == "__main__":
    print(search.search(sys.argv[1], trials=8, storage=sys.argv[2], runs=sys.argv[3]))
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
    assert killed.state.name == "FAIL"
    again = [t for t in complete if t.params == killed.params]
    assert len(again) == 1  # picked up by another worker, once
    assert again[0].user_attrs["worker"] != victim[1]
    results = json.loads((folder / "study.json").read_text())["results"]
    assert results["front"]


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


def test_a_storage_that_cannot_be_reached_is_told():
    recipe = write(HEAD + SMALL + SEARCH)
    with pytest.raises(UserError, match=r"--storage postgresql\+psycopg://me:\.\.\.@127.0.0.1:1/x: cannot be reached"):
        search(recipe, trials=1, storage="postgresql+psycopg://me:secret@127.0.0.1:1/x")
