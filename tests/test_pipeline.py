"""Whole runs: what lies in the folder, the budget, determinism, and what happens when things go wrong."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Small, Triples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairquant
from fairquant.errors import RunBusy, TrainingDiverged, UserError
from fairquant.files import folder_lock
from fairquant.runs.folder import Quiet

TINY = {
    "seed": 1, "method": "fq-baq", "dataset": {"name": "synthetic-lesions", "images": 240},
    "model": {"name": "test_resnet", "image_size": 32}, "budget": {"average_bits": 2.5},
    "baseline": {"epochs": 1, "batch_size": 32, "augment": "flips"},
    "calibration": {"images": 48, "batch_size": 24}, "train": {"epochs": 2, "batch_size": 32, "augment": "flips"},
    "tracking": {"mlflow": None},
}  # fmt: skip
KEYS = {
    "method", "seed", "recipe", "dataset", "budget", "bits", "artifact", "metrics", "baseline", "change", "optimality",
    "timings", "versions",
}  # fmt: skip


def write(**changes) -> str:
    content = {**TINY, **changes}
    Path("tiny.yaml").write_text(yaml.safe_dump(content))
    return "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run, looked at by many tests."""
    place = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(place)
    try:
        result = fairquant.run(write(), runs=place / "runs")
    finally:
        os.chdir(before)
    return result


def test_the_folder_holds_what_the_design_promises(finished):
    names = {file.name for file in finished.folder.iterdir()}
    assert names >= {
        "recipe.yaml", "report.json", "report.html", "bit_plan.csv", "predictions.npz", "validation.npz", "model.safetensors", "log.txt", "checkpoints",
    }  # fmt: skip
    assert finished.folder.name.startswith("fq-baq-seed1-")
    assert finished.folder.parent.name == "tiny"


def test_the_report_has_exactly_the_promised_keys(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    assert set(report) == KEYS
    assert set(report["dataset"]) == {"name", "fingerprint", "classes", "attributes", "counts"}
    assert set(report["bits"]) == {"average", "histogram", "weight_bytes", "moved"}
    assert set(report["artifact"]) == {"path", "bytes", "sha256"}
    assert set(report["change"]) == {"accuracy", "flips", "harmful_flips"}
    assert set(report["optimality"]) == {"lower_bound", "gap"}
    for section in (report["metrics"], report["baseline"]["metrics"]):
        assert set(section) >= {
            "accuracy",
            "balanced-accuracy",
            "worst-group-accuracy",
            "eodd",
            "eodd-fairprune",
            "eopp0-fairquant",
        }
        assert all(set(value) == {"value", "low", "high", "by_group", "skipped"} for value in section.values())


def test_plan_report_predictions_and_artifact_agree(finished):
    report = finished.report
    rows = list(csv.DictReader((finished.folder / "bit_plan.csv").open()))
    weights = np.array([int(row["weights"]) for row in rows])
    bits = np.array([int(row["bits"]) for row in rows])
    assert (weights * bits).sum() / weights.sum() == pytest.approx(report["bits"]["average"])
    assert report["bits"]["average"] <= 2.5
    assert sum(report["bits"]["histogram"].values()) == weights.sum()
    assert report["artifact"]["bytes"] == (finished.folder / "model.safetensors").stat().st_size
    stored = np.load(finished.folder / "predictions.npz")
    assert (
        stored["logits"].shape
        == (len(stored["labels"]), len(report["dataset"]["classes"]))
        == stored["baseline_logits"].shape
    )
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(
        (stored["logits"].argmax(1) == stored["labels"]).mean()
    )
    assert list(stored["group_names"]) == ["tones I-III", "tones IV-VI"]
    assert len(set(stored["ids"].tolist())) == len(stored["labels"]) == report["dataset"]["counts"]["test"]


def test_the_loaded_model_gives_the_stored_logits_bit_for_bit(finished):
    from fairquant.api import load_data
    from fairquant.data.transforms import Normalization
    from fairquant.recipe import read_recipe
    from fairquant.registry import discover
    from fairquant.runs.folder import Quiet
    from fairquant.training.predict import predict

    recipe = read_recipe(finished.folder / "recipe.yaml", registry=discover().registry)
    splits = load_data(recipe, Quiet())
    model = finished.load()
    how = model.fairquant_metadata["preprocessing"]
    again = predict(
        model,
        splits.test,
        (splits.group_names, splits.class_names),
        Normalization(tuple(how["mean"]), tuple(how["std"])),
        torch.device("cpu"),
    )
    assert np.array_equal(again.logits, np.load(finished.folder / "predictions.npz")["logits"])


def test_a_finished_run_is_shown_not_run_again(finished):
    again = fairquant.run(finished.folder / "recipe.yaml", runs=finished.folder.parent.parent.parent / "x")
    assert not again.was_finished  # another runs folder: a fresh run
    assert fairquant.run(finished.folder / "recipe.yaml", runs=finished.folder.parent.parent.parent / "x").was_finished


def test_what_a_budget_measured_serves_the_next_and_changes_nothing():
    recipe = write(method="fmpq-ptq", quantize={"choices": [2, 4, 8]}, calibration={"images": 24, "probe_images": 8})
    fairquant.run(recipe, "budget.average_bits=3", runs="shared")
    (file,) = Path("shared/probes").glob("*/*.json")
    known = file.read_bytes()
    shared = fairquant.run(recipe, "budget.average_bits=4", runs="shared")
    assert file.read_bytes() == known  # fmpq asks the same of every budget
    assert list(Path("shared/probes").glob("*/*.json")) == [file]
    alone = fairquant.run(recipe, "budget.average_bits=4", runs="alone")
    assert (shared.folder / "bit_plan.csv").read_bytes() == (alone.folder / "bit_plan.csv").read_bytes()


def test_a_finished_run_of_another_version_says_so(finished):
    folder = Path("runs/tiny") / finished.folder.name
    shutil.copytree(finished.folder, folder)
    said: list[str] = []
    display = Quiet()
    display.say = said.append  # type: ignore[method-assign]
    assert fairquant.run(write(), display=display).was_finished
    assert said == []
    report = json.loads((folder / "report.json").read_text())
    report["versions"]["fairquant"] = "0.0.9"
    (folder / "report.json").write_text(json.dumps(report))
    assert fairquant.run("tiny.yaml", display=display).was_finished
    now = fairquant.__version__
    assert said == [f"{folder}: finished with fairquant 0.0.9 (now {now}). Remove the folder to run it anew"]


def comparable(report):
    return {key: value for key, value in report.items() if key not in ("timings", "recipe")}


def test_the_same_recipe_and_seed_give_the_same_result(finished):
    again = fairquant.run(finished.folder / "recipe.yaml", runs="elsewhere")
    assert comparable(again.report) == comparable(finished.report)
    assert (again.folder / "bit_plan.csv").read_bytes() == (finished.folder / "bit_plan.csv").read_bytes()


def test_a_run_killed_at_a_random_moment_resumes_to_the_same_report(finished):
    (Path("tiny.yaml")).write_text((finished.folder / "recipe.yaml").read_text())
    command = [
        sys.executable,
        "-m",
        "fairquant",
        "run",
        "tiny.yaml",
        "train.checkpoint_minutes=0.0001",
        "baseline.checkpoint_minutes=0.0001",
    ]
    chance, kills = random.Random(time.time_ns()), 0
    for _ in range(12):
        before = sum(log.stat().st_size for log in Path("runs/tiny").glob("*/log.txt"))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and sum(l.stat().st_size for l in Path("runs/tiny").glob("*/log.txt")) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 2.5))  # anywhere between its first line and its end
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        elif not kills:  # it was quicker than we were: again from the start
            shutil.rmtree("runs")
        process.wait()
        if kills == 2:
            break
    result = fairquant.run("tiny.yaml", "train.checkpoint_minutes=0.0001", "baseline.checkpoint_minutes=0.0001")
    print(f"killed {kills} times")
    assert kills
    mine, theirs = comparable(result.report), comparable(finished.report)
    for report in (mine, theirs):  # the recipe's checkpoint interval is in the artifact's metadata
        report["artifact"] = None
    assert mine == theirs
    assert np.array_equal(
        np.load(result.folder / "predictions.npz")["logits"], np.load(finished.folder / "predictions.npz")["logits"]
    )


def test_ctrl_c_leaves_a_run_that_can_go_on():
    write(train={"epochs": 40, "batch_size": 16, "augment": "flips"})
    process = subprocess.Popen(
        [sys.executable, "-m", "fairquant", "run", "tiny.yaml"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.time() + 120
    while time.time() < deadline and not list(Path("runs").glob("tiny/*/checkpoints/train.pt")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from here" in errors
    assert "Traceback" not in errors
    assert list(Path("runs").glob("tiny/*/checkpoints/train.pt"))
    assert not list(Path("runs").glob("tiny/*/report.json"))


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint():
    write(
        train={
            "epochs": 3,
            "batch_size": 32,
            "augment": "none",
            "learning_rate": 1.0e30,
            "clip_norm": None,
            "schedule": "constant",
        }
    )
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) in epoch .* Lower the learning_rate"):
        fairquant.run("tiny.yaml")
    assert list(Path("runs/baselines").glob("*/model.safetensors"))


def test_a_busy_run_is_refused(finished):
    with folder_lock(Path("runs/tiny") / finished.folder.name, wait=False):
        (Path("tiny.yaml")).write_text((finished.folder / "recipe.yaml").read_text())
        with pytest.raises(RunBusy, match="another process is working on this run"):
            fairquant.run("tiny.yaml")


def test_a_full_disk_is_told_and_loses_nothing(monkeypatch):
    import fairquant.files as files

    write()
    real = files.os.fsync

    def full(descriptor):
        if any(Path("runs").glob("baselines/*/model.safetensors")):
            raise OSError(28, "No space left on device", "runs/tiny")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device. The run can be resumed"):
        fairquant.run("tiny.yaml")
    assert not list(Path("runs").rglob("*.tmp"))
    monkeypatch.setattr(files.os, "fsync", real)
    assert fairquant.run("tiny.yaml").report["bits"]["average"] <= 2.5


@pytest.mark.parametrize("method", ["fp32", "uniform-2", "uniform-4-ptq", "fq-qat"])
def test_methods(method):
    report = fairquant.run(write(), f"method={method}").report
    assert report["method"] == method
    if method == "fp32":
        assert report["bits"]["average"] == 32
        assert report["budget"] == {"average_bits": None}
        assert report["optimality"] == {}
    elif method.startswith("uniform"):
        bits = int(method.split("-")[1])
        assert report["bits"]["histogram"] == {str(bits): sum(report["bits"]["histogram"].values())}
        assert report["budget"]["nominal_bits"] == bits
    else:
        assert report["bits"]["average"] <= 2.5
        assert report["optimality"]["gap"] < 0.001


def test_the_papers_quantile_rule_shows_nominal_and_actual_bits():
    report = fairquant.run(
        write(),
        "method=fq-qat",
        "allocator={name: quantile}",
        "importance.name=grape",
        "quantize.choices=[2,4,8]",
        "budget.average_bits=6",
    ).report
    assert report["budget"]["nominal_bits"] == pytest.approx(5.2)
    assert report["bits"]["average"] <= 6
    assert report["bits"]["average"] != pytest.approx(5.2, abs=0.01)


def test_keep_and_pin(tmp_path):
    report = fairquant.run(write(), "quantize.keep=[fc]", "quantize.pin={conv1*: 8}")
    rows = list(csv.DictReader((report.folder / "bit_plan.csv").open()))
    assert "fc" not in {row["layer"] for row in rows}
    assert {row["bits"] for row in rows if row["layer"].startswith("conv1")} == {"8"}
    assert report.report["bits"]["average"] <= 2.5
    with pytest.raises(UserError, match=r"quantize.keep: 'fcc' matches no layer. Did you mean 'fc'\?"):
        fairquant.run(write(), "quantize.keep=[fcc]")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    average=st.floats(0.2, 8), method=st.sampled_from(["fq-qat", "fq-baq"]), units=st.sampled_from(["channel", "tensor"]),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_no_method_exceeds_its_budget(average, method, units, seed):
    torch.manual_seed(seed)
    result = fairquant.quantize(
        Small(), Triples(48, seed), Triples(24, seed + 50), average_bits=average, method=method, seed=seed,
        overrides=["train.epochs=1", "calibration.images=24", f"quantize.units={units}", "tracking.mlflow=null"],
    )  # fmt: skip
    assert result.report["bits"]["average"] <= average
    assert result.report["artifact"]["bytes"] < 40_000


def test_a_strange_module_goes_through_quantize_save_and_load(strange):
    before = {name: value.clone() for name, value in strange.state_dict().items()}
    test = Triples(40, 3, classes=3)
    result = fairquant.quantize(
        strange, Triples(80, 1, classes=3), Triples(40, 2, classes=3), test, average_bits=3,
        overrides=["train.epochs=2", "tracking.mlflow=null"], group_names=["young", "old"],
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in strange.state_dict().items())
    assert result.report["bits"]["average"] <= 3
    assert set(result.report["metrics"]["accuracy"]["by_group"]) == {"young", "old"}
    fresh = type(strange)()
    loaded = result.load(fresh)
    with torch.no_grad():
        logits = loaded(torch.stack([test[i][0] for i in range(40)]))
    assert np.array_equal(logits.numpy(), np.load(result.folder / "predictions.npz")["logits"])


def test_quantize_explains_wrong_data(small):
    with pytest.raises(UserError, match=r"train: every item must be .image, label, group."):
        fairquant.quantize(small, [(torch.zeros(3, 8, 8), 0)], Triples(4, 0))
    with pytest.raises(UserError, match="the data have 2 classes and 2 groups"):
        fairquant.quantize(small, Triples(20, 0), Triples(20, 1), class_names=["only"])


def test_importance_of_a_plugin_that_raises_leaves_a_resumable_run(monkeypatch):
    from fairquant_fair.fisher import Fisher

    def fail(*_):
        raise RuntimeError("the plugin is broken")

    real = Fisher.measure
    monkeypatch.setattr(Fisher, "measure", fail)
    with pytest.raises(RuntimeError, match="the plugin is broken"):
        fairquant.run(write())
    monkeypatch.setattr(Fisher, "measure", real)
    assert "the plugin is broken" in next(Path("runs/tiny").glob("*/log.txt")).read_text()
    assert fairquant.run(write()).report["bits"]["average"] <= 2.5
