"""fairquant recipes: those that ship, and a copy to change."""

from __future__ import annotations

from pathlib import Path

from helpers.command import fairquant
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.recipe.presets import library


def test_every_recipe_and_method_is_listed_with_its_first_line():
    output = CliRunner().invoke(app, ["recipes"]).output
    for name in (*library().recipes(), *library().methods()):
        assert name in output, name
    assert "recipes/isic_resnet18.yaml" in output
    assert "fq-baq" in output


def test_a_copy_is_written_once_and_never_over_a_file():
    assert fairquant("recipes", "copy", "quickstart", "mine.yaml").returncode == 0
    assert Path("mine.yaml").read_text().startswith("# Synthetic")
    again = fairquant("recipes", "copy", "quickstart", "mine.yaml")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_by_default_a_copy_has_the_recipes_own_name():
    CliRunner().invoke(app, ["recipes", "copy", "studies/sensitivity"])
    assert Path("sensitivity.yaml").is_file()
