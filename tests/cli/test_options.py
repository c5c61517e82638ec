"""Arguments that several verbs share."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fairquant.cli import app


@pytest.mark.parametrize("verb", [["run"], ["compare"], ["study", "run"], ["validate"], ["show"]])
def test_every_verb_that_reads_a_recipe_takes_overrides_and_demo(verb):
    text = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
    assert "[KEY=VALUE]..." in text
    assert "--demo" in text


@pytest.mark.parametrize("verb", [["run"], ["compare"], ["study", "run"]])
def test_every_verb_that_runs_takes_the_folder_of_runs_from_the_environment(verb):
    assert "FAIRQUANT_RUNS" in CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
