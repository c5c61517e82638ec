"""fairquant show: a resolved recipe, or the result of a finished run."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError


def show(*arguments: str):
    return CliRunner().invoke(app, ["show", *arguments])


def test_a_recipe_is_shown_with_every_default_and_can_be_run_again(registry):
    from fairquant.recipe import read_recipe, recipe_from

    result = show("quickstart", "seed=7")
    assert "name: minimax" in result.output
    again = recipe_from(yaml.safe_load(result.output), registry=registry)
    assert again.digest() == read_recipe("quickstart", ["seed=7"], registry=registry).digest()


def test_what_was_replaced_is_said_in_a_comment():
    assert show("quickstart", "--demo").output.startswith("# DEMO: synthetic images")


def test_a_finished_run_is_shown_by_its_folder(finished):
    output = show(str(finished.folder)).output
    assert "fq-baq · seed 1" in output
    assert f"bits    {finished.report['bits']['average']:.3f} per quantized weight (budget 2.5)" in output


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    result = show(str(tmp_path))
    assert isinstance(result.exception, UserError)
    assert "no finished run" in str(result.exception)


@pytest.mark.parametrize("name", ["nowhere", "recipes/quickstar.yaml"])
def test_a_recipe_that_is_not_there_is_reported(name):
    assert "no recipe" in str(show(name).exception)
