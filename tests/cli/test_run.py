"""fairquant run: mistakes, missing data, --demo, Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.command import fairquant
from helpers.recipes import write_recipe
from helpers.reports import metric, run_report

from fairquant.cli.run import summary


def test_a_users_mistake_gives_exit_2_and_no_traceback():
    Path("bad.yaml").write_text("dataset: {name: synthetic-lesions}\nalocator: {name: knapsack}\n")
    out = fairquant("run", "bad.yaml")
    assert out.returncode == 2
    assert (
        "fairquant: error: 1 problem(s) in bad.yaml\n  bad.yaml:2: alocator: unknown key. Did you mean 'allocator'?"
        in out.stderr
    )
    assert "Traceback" not in out.stderr


def test_missing_data_say_what_to_do():
    out = fairquant("run", "recipes/fitz_deit.yaml")
    assert out.returncode == 2
    assert "lacks fitzpatrick17k.csv, images" in out.stderr
    assert "--demo" in out.stderr
    assert fairquant("validate", "recipes/fitz_deit.yaml").returncode == 2


def test_demo_runs_anywhere_and_says_so_in_every_output():
    out = fairquant("run", "recipes/fitz_deit.yaml", "--demo", "tracking.mlflow=null")
    assert out.returncode == 0, out.stderr
    assert "DEMO" in out.stdout
    assert "DEMO" in out.stderr
    folder = next(Path("runs/fitz_deit-demo").iterdir())
    for name in ("report.html", "report.json", "log.txt"):
        assert "DEMO" in (folder / name).read_text()
    shown = fairquant("show", str(folder))
    assert "bits " in shown.stdout


def test_ctrl_c_leaves_a_run_that_can_be_resumed():
    write_recipe(train={"epochs": 40, "batch_size": 16, "augment": "flips"})
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
    assert "The same command resumes" in errors
    assert "Traceback" not in errors
    assert list(Path("runs").glob("tiny/*/checkpoints/train.pt"))
    assert not list(Path("runs").glob("tiny/*/report.json"))


def test_the_result_fits_one_screen():
    text = summary(run_report())
    assert text.splitlines()[:3] == [
        "tiny · fq-baq · seed 3",
        "bits    2.988 per weight (budget 3), file 0.05 MB",
        "accuracy              0.800 -> 0.750 [0.650, 0.850]",
    ]
    assert "  dark                accuracy -0.100 [-0.200, -0.010], newly misclassified 15.0 %" in text


def test_a_metric_of_ones_own_is_in_the_summary_and_an_undefined_one_is_not():
    report = run_report()
    for section in (report["metrics"], report["baseline"]["metrics"]):
        section["jain-index"] = metric(0.9, {})
        section["own"] = {**metric(0.9, {}), "value": None}
    assert "jain-index            0.900 -> 0.900" in summary(report)
    assert "own " not in summary(report)
