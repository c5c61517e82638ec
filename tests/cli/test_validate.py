"""fairquant validate: a recipe and its data are checked, nothing is run."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from fairquant.cli import app


def validate(*arguments: str):
    return CliRunner().invoke(app, ["validate", *arguments])


def test_a_valid_recipe_is_said_to_be_valid_and_leaves_nothing():
    result = validate("recipes/quickstart.yaml")
    assert result.exit_code == 0
    assert result.output.startswith("recipes/quickstart.yaml: is valid (")
    assert list(Path().iterdir()) == []


def test_missing_data_are_reported_unless_it_is_a_demonstration():
    assert "lacks fitzpatrick17k.csv" in str(validate("recipes/fitz_deit.yaml").exception)
    assert validate("recipes/fitz_deit.yaml", "--demo").exit_code == 0


def test_the_search_section_is_checked_too():
    Path("r.yaml").write_text(
        "dataset: {name: synthetic-lesions}\nsearch: {parameters: {budget.average_bits: [2, 99]}, objectives: {accuracy: maximize}}\n"
    )
    assert "99: budget.average_bits: must be at most 8, got 99" in str(validate("r.yaml").exception)
