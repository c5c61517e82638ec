"""fairquant compare: jobs side by side, and options that cannot be."""

from __future__ import annotations

import pytest
from helpers.reports import comparison_of, failed_row, row
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.cli.compare import _blocks, show
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.report.comparison import Difference


def test_the_command_runs_jobs_side_by_side_and_prints_the_table(tmp_path):
    result = CliRunner().invoke(
        app,
        ["compare", "quickstart", "model.name=test_resnet", "model.image_size=32", "train.epochs=1", "dataset.images=120", "tracking.mlflow=null", "--demo", "--methods", "uniform-4-ptq,uniform-2-ptq",
         "--seeds", "0,1", "--jobs", "2", "--runs", str(tmp_path)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "uniform-4-ptq" in result.output
    assert "compare.html" in result.output


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--methods", "uniform-5"], "no method is called 'uniform-5'"), (["--seeds", "a"], "--seeds a: must be numbers"),
     (["--against", "hawq"], "--against hawq: is not part of this comparison")],
)  # fmt: skip
def test_wrong_options_are_named(options, text, tmp_path):
    result = CliRunner().invoke(app, ["compare", "quickstart", "--demo", "--runs", str(tmp_path), *options])
    assert isinstance(result.exception, UserError)
    assert text in str(result.exception)


def test_the_table_is_shown_in_blocks_that_fit_the_terminal():
    assert _blocks([20, 10, 10, 10], 60) == [[0, 1, 2, 3]]
    assert _blocks([20, 10, 10, 10], 45) == [[0, 1, 2], [0, 3]]
    assert _blocks([20, 90], 45) == [[0, 1]]


def test_the_table_shows_every_method_its_marks_and_the_permutation_baseline(registry, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    recipe = read_recipe("quickstart", registry=registry)
    show(
        comparison_of(
            recipe,
            row("fp32", 0.9, 32.0),
            row("uniform-3", against=Difference(-0.05, -0.08, -0.02)),
            failed_row("hawq", "[x] failed"),
        )
    )
    output = capsys.readouterr().out
    for text in ("fp32", "uniform-3", "0.800 ± 0.010*", "permutation baseline", "hawq: [x] failed", "compare.tex"):
        assert text in output, text


def test_columns_are_the_recipes_metrics_or_those_that_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    given = [
        "compare", "quickstart", "model.name=test_resnet", "model.image_size=32", "baseline.epochs=1", "dataset.images=120", "tracking.mlflow=null",
        "metrics=[accuracy, {name: sensitivity, classes: [melanoma]}, {name: eopp1, convention: fairprune}]", "--demo",
        "--methods", "uniform-4-ptq", "--runs", str(tmp_path),
    ]  # fmt: skip
    plain = CliRunner().invoke(app, given)
    assert plain.exit_code == 0, plain.output
    head = next(line for line in plain.stdout.splitlines() if line.startswith("method"))
    assert head.split() == ["method", "accept", "bits", "MB", "accuracy", "↑", "sensitivity-melanoma", "↑"]
    asked = CliRunner().invoke(app, [*given, "--columns", "sensitivity-melanoma, eopp1-fairprune"])
    head = next(line for line in asked.stdout.splitlines() if line.startswith("method"))
    assert head.split()[4:] == ["sensitivity-melanoma", "↑", "eopp1-fairprune", "↓"]
    wrong = CliRunner().invoke(app, [*given, "--columns", "sensitivity-melanom,auc"])
    assert isinstance(wrong.exception, UserError)
    assert list(wrong.exception.problems) == [
        "--columns: the recipe measures no 'sensitivity-melanom'. Did you mean 'sensitivity-melanoma'? Metrics: accuracy, "
        "sensitivity-melanoma, eopp1-fairprune",
        "--columns: the recipe measures no 'auc'. Metrics: accuracy, sensitivity-melanoma, eopp1-fairprune",
    ]
