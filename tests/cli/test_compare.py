"""fairquant compare: jobs side by side, and options that cannot be."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError


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
