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
from typer.testing import CliRunner

from fairquant.cli import app
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
    lines = text.splitlines()
    assert lines[0].startswith("FAIL: sensitivity of wart in 'dark' lost 20.0 points")
    assert lines[1] == "  FAIL  sensitivity of wart in 'dark' lost 20.0 points (loss 10.0 to 30.0), at most 5.0 allowed"
    assert lines[2].startswith("Of 100 patients with wart in 'dark', the full-precision model finds 70, this one 44")
    assert lines[3].startswith("7 of 12 sensitivities and specificities cannot be judged one by one")
    assert lines[4:7] == [
        "tiny · fq-baq · seed 3",
        "bits    2.988 per quantized weight (budget 3); 3.2 % of the weights stay in float32, 3.956 bits over all weights, file 0.05 MB",
        "accuracy              0.800 -> 0.750 [0.650, 0.850]",
    ]
    assert "  dark                accuracy -0.100 [-0.200, -0.010], newly misclassified 15.0 %" in text


def test_a_metric_of_ones_own_is_in_the_summary_and_an_undefined_one_is_not():
    report = run_report()
    for section in (report["metrics"], report["baseline"]["metrics"]):
        section["jain-index"] = metric(0.9, {})
        section["own"] = {**metric(0.9, {}), "value": None}
    assert "jain-index            0.900 -> 0.900" in summary(report)
    assert "own 0" not in summary(report)
    assert not any(line.startswith("own") for line in summary(report).splitlines())


SHORT = (
    "method=uniform-4-ptq", "baseline.epochs=1", "dataset.images=120", "model.name=test_resnet", "model.image_size=32",
    "tracking.mlflow=null", "calibration.images=24",
)  # fmt: skip
ANSWERS = {
    "accept={accuracy: {at_least: 0.001}, file: {at_most: 900MB}}": 0,
    "accept={accuracy: {at_least: 0.001}, file: {at_most: 1kB}}": 3,
    "accept={accuracy: {loss_at_most: 0.01}}": 4,
}


def test_strict_ends_with_the_answer_of_the_limits(tmp_path):
    for limits, code in ANSWERS.items():
        given = ["run", "quickstart", "--demo", *SHORT, limits, "--runs", str(tmp_path)]
        strict = CliRunner().invoke(app, [*given, "--strict"])
        assert strict.exit_code == code, strict.output
        assert strict.stdout.startswith(("PASS: ", "", "", "FAIL: ", "CANNOT TELL: ")[code])
        assert CliRunner().invoke(app, given).exit_code == 0
        artifact = next(line.split()[1] for line in strict.stdout.splitlines() if line.startswith("model "))
        audited = CliRunner().invoke(app, ["audit", artifact, "--strict"])  # the same limits, out of the file
        assert audited.exit_code == code, audited.output
        other = {0: 3, 3: 0, 4: 3}[code]  # limits given later come on top of those of the recipe
        asked = next(limits for limits, each in ANSWERS.items() if each == other)
        assert CliRunner().invoke(app, ["audit", artifact, asked, "--strict"]).exit_code == other
    compared = [
        "compare",
        "quickstart",
        "--demo",
        *SHORT[1:],
        "--methods",
        "fp32,uniform-4-ptq",
        "--runs",
        str(tmp_path),
    ]
    for limits, code in ANSWERS.items():
        result = CliRunner().invoke(app, [*compared, "train.epochs=1", limits, "--strict"])
        assert result.exit_code == code, result.output
