"""fairquant compare: cells, statistics, the files it leaves, a method that cannot meet the budget, MLflow's tree."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from fairquant_fair.accuracy import Accuracy, WorstGroupAccuracy
from fairquant_fair.scores import BrierScore
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.recipe.presets import library
from fairquant.recipe.schema import Component
from fairquant.roles import Predictions
from fairquant.study import compare
from fairquant.study.grid import Cell, chosen_methods, make_cells
from fairquant.study.statistics import paired_differences, spread
from fairquant.report.tables import entries, header

METRICS = [
    Component("accuracy", Accuracy()), Component("worst-group-accuracy", WorstGroupAccuracy()),
    Component("brier", BrierScore()),
]  # fmt: skip


def predictions(right: float, count: int = 300, seed: int = 0) -> Predictions:
    truth, draw = np.random.default_rng(0), np.random.default_rng(seed)
    labels, groups = truth.integers(0, 3, count), truth.integers(0, 2, count)
    logits = draw.normal(size=(count, 3)).astype(np.float32)
    hit = draw.random(count) < right
    logits[np.arange(count), labels] += np.where(hit, 6, -6)
    return Predictions(logits=logits, labels=labels, groups=groups, group_names=("a", "b"), class_names=("x", "y", "z"), ids=tuple(map(str, range(count))))


def test_cells_go_seed_by_seed_and_a_method_with_bits_of_its_own_takes_no_budget():
    cells = make_cells(["fp32", "uniform-4", "fq-qat"], [2.5, 3.0], [0, 1])
    assert [cell.row for cell in cells[:4]] == ["fp32", "uniform-4", "fq-qat @ 2.5", "fq-qat @ 3"]
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4
    assert cells[3].overrides == ("method=fq-qat", "seed=0", "budget.average_bits=3")
    assert make_cells(["fq-qat"], [], [5]) == [Cell("fq-qat", None, 5)]


def test_methods_by_name_or_all():
    everything = chosen_methods("all")
    assert everything[0] == "fp32"
    assert {"fairgrape", "fairquantize", "fairprune", "hawq", "impq", "fmpq", "nir", "fq-qat", "fq-baq"} <= set(
        everything
    )
    assert chosen_methods("fq-qat, fp32") == ("fq-qat", "fp32")
    with pytest.raises(UserError, match="no method is called 'fq-qt'. Did you mean 'fq-qat'"):
        chosen_methods("fq-qt")


def test_all_takes_every_preset_and_each_untrained_plan_once():
    everything = chosen_methods("all")
    assert {
        "adq",
        "iterative-qat",
        "uniform-2-ptq",
        "fq-qat-ptq",
        "fq-baq-ptq",
        "fairgrape-ptq",
        "hawq-ptq",
        "impq-ptq",
    } <= set(everything)
    assert not {"iterative-qat-ptq", "fq-distill-ptq", "fp32-ptq"} & set(
        everything
    )  # fq-qat-ptq's plan again, and no plan
    assert everything[:3] == ("fp32", "uniform-8", "uniform-8-ptq")
    assert library().load_method("fairgrape-ptq")["allocator"] == library().load_method("fairgrape")["allocator"]
    assert library().load_method("fq-qat-ptq")["train"] == {"post_training": True}
    assert "regularizers" not in library().load_method("fq-qat-ptq")


def test_a_difference_is_paired_and_its_interval_covers_what_it_should():
    good, bad = predictions(0.9, seed=1), predictions(0.7, seed=2)
    found = paired_differences([(bad, good)], METRICS)
    expected = (good.predicted == good.labels).mean() - (bad.predicted == bad.labels).mean()
    assert found["accuracy"].value == pytest.approx(expected)
    assert found["accuracy"].low < expected < found["accuracy"].high
    assert found["accuracy"].significant
    assert found["brier"].value < 0
    same = paired_differences([(good, good)], METRICS)
    assert all((d.value, d.low, d.high) == (0, 0, 0) and not d.significant for d in same.values())
    # pairing matters: few images differ between these two, so that the interval is far narrower than an unpaired one
    logits = good.logits.copy()
    logits[:3] *= -1
    near = paired_differences([(good, replace(good, logits=logits))], METRICS)["accuracy"]
    unpaired = 2 * 1.96 * np.sqrt(2 * 0.9 * 0.1 / 300)
    assert near.high - near.low < unpaired / 2
    with pytest.raises(UserError, match="not tested on the same images"):
        paired_differences([(good, replace(good, ids=tuple("abc" * 100)))], METRICS)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Two methods of equal quality: about one interval in twenty excludes 0."""
    significant = sum(
        paired_differences(
            [(predictions(0.8, seed=2 * k), predictions(0.8, seed=2 * k + 1))], METRICS[:1], replicates=200
        )["accuracy"].significant
        for k in range(100)
    )
    assert significant <= 12


def test_spread_over_seeds():
    assert (spread([1.0, 3.0]).mean, spread([1.0, 3.0]).deviation) == (2.0, pytest.approx(2**0.5))
    assert np.isnan(spread([1.0]).deviation)
    assert spread([1.0, None]).mean == 1.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def found(place):
    return compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fp32", runs=place,
    )  # fmt: skip


def test_a_method_that_cannot_meet_the_budget_says_so_and_the_others_go_on(found):
    rows = {row.name: row for row in found.rows}
    assert "cannot meet the budget" in rows["fairquantize @ 1.5"].problems[0]
    assert not rows["fairquantize @ 1.5"].metrics
    assert not rows["fairquantize @ 3"].problems
    for row in found.rows:
        if row.budget is not None and row.metrics:
            assert all(bits <= row.budget + 1e-9 for bits in row.bits.values)
            assert row.seeds == (0, 1)


def test_the_files_hold_the_table(found):
    content = json.loads((found.folder / "compare.json").read_text())
    assert [row["name"] for row in content["rows"]] == [row.name for row in found.rows]
    assert content["rows"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(found.rows[0].metrics["accuracy"].mean)
    page, text, tex = ((found.folder / f"compare.{kind}").read_text() for kind in ("html", "md", "tex"))
    for row in found.rows:
        assert row.name in page
        assert f"| {row.name} |" in text
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "DEMO" in page
    assert "DEMO" in text
    assert tex.count(r"\\") == 2 + len(found.rows)  # with the header and the permutation baselines
    assert all(len(entries(found, row)) == len(header(found)) - 1 for row in found.rows)


def test_all_methods_of_a_seed_share_one_baseline(found, place):
    assert len(list((place / "baselines").iterdir())) == 2
    for seed in (0, 1):
        folders = [o.folder for o in found.outcomes if o.folder is not None and o.cell.seed == seed]
        before = [np.load(folder / "predictions.npz")["baseline_logits"] for folder in folders]
        assert len(before) > 2
        assert all(np.array_equal(logits, before[0]) for logits in before)


def test_a_second_call_runs_nothing_again(found, place):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("report.json")}
    again = compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fp32", runs=place,
    )  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in place.rglob("report.json")} == before
    assert again.folder == found.folder
    assert str(again.rows) == str(found.rows)


def test_a_row_is_held_against_the_reference_of_its_own_budget(place, found):
    """Methods at 3 bits against fq-qat at 3 bits; a row without a budget against the one nearest in bits."""
    again = compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fq-qat", runs=place,
    )  # fmt: skip
    rows = {row.name: row for row in again.rows}
    assert {name: row.reference for name, row in rows.items()} == {
        "fp32": "fq-qat @ 3", "uniform-2-ptq": "fq-qat @ 1.5", "fq-qat @ 1.5": None, "fq-qat @ 3": None,
        "fairquantize @ 1.5": None, "fairquantize @ 3": "fq-qat @ 3",
    }  # fmt: skip
    for row in again.rows:
        for label in ("accuracy", "worst-group-accuracy") if row.reference else ():
            apart = row.metrics[label].mean - rows[row.reference].metrics[label].mean
            assert row.against[label].value == pytest.approx(apart)
    assert "differs from fq-qat at the same budget" in (again.folder / "compare.md").read_text()


def test_mlflow_shows_one_parent_and_a_child_per_method_and_seed(found, place):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/ml.db")
    experiment = client.get_experiment_by_name("quickstart-demo")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags.get("kind") == "comparison"]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == sum(outcome.report is not None for outcome in found.outcomes)
    assert {run.data.tags["method"] for run in children} == {"fp32", "uniform-2-ptq", "fq-qat", "fairquantize"}
    assert {file.path for file in client.list_artifacts(parents[0].info.run_id)} >= {"compare.html", "compare.json"}


def test_the_command_runs_jobs_side_by_side_and_prints_the_table(place):
    result = CliRunner().invoke(
        app,
        ["compare", "quickstart", "model.name=test_resnet", "model.image_size=32", "train.epochs=1", "dataset.images=120", "tracking.mlflow=null", "--demo", "--methods", "uniform-4-ptq,uniform-2-ptq",
         "--seeds", "0,1", "--jobs", "2", "--runs", str(place / "jobs")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "uniform-4-ptq" in result.output
    assert "compare.html" in result.output


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--methods", "uniform-5"], "no method is called 'uniform-5'"), (["--seeds", "a"], "--seeds a: must be numbers"),
     (["--against", "hawq"], "--against hawq: takes no part")],
)  # fmt: skip
def test_wrong_options_are_named(options, text, place):
    result = CliRunner().invoke(app, ["compare", "quickstart", "--demo", "--runs", str(place), *options])
    assert isinstance(result.exception, UserError)
    assert text in str(result.exception)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fairquant",
        "compare",
        "quickstart",
        "tracking.mlflow=null",
        "--demo",
        "--jobs",
        "2",
    ]
    more = ["--methods", "uniform-4,uniform-3", "--runs", str(tmp_path)]
    main = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers() -> dict[str, str]:
        """Number of each worker process on this machine and of its parent: other tests have workers, too."""
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True
        ).stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in listed if "spawn_main" in line}

    deadline = time.time() + 60
    while not list(tmp_path.rglob("log.txt")) and time.time() < deadline:
        time.sleep(0.1)
    own = {worker for worker, parent in workers().items() if parent == str(main.pid)}
    main.kill()
    main.wait()
    deadline = time.time() + 30
    while own & set(workers()) and time.time() < deadline:
        time.sleep(0.2)
    assert own
    assert not own & set(workers())


LATE = """
import multiprocessing, os, pathlib, time

def late(place):
    pathlib.Path(place).write_text(str(os.getpid()))
    time.sleep(2)
    from fairquant.study.workers import follow_parent
    follow_parent()
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=late, args=("child",)).start()
"""


def test_a_worker_whose_parent_died_before_it_looked_ends_as_well(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    main = subprocess.Popen([sys.executable, "late.py"], cwd=tmp_path)
    child, deadline = tmp_path / "child", time.time() + 30
    while not (child.exists() and child.read_text()) and time.time() < deadline:
        time.sleep(0.05)
    main.kill()
    main.wait()
    number, deadline = child.read_text(), time.time() + 20

    def alive() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout
        return bool(state.strip()) and not state.startswith("Z")

    assert alive()
    while alive() and time.time() < deadline:
        time.sleep(0.2)
    assert not alive()
