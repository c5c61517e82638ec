"""fairquant ui: which store it opens."""

from __future__ import annotations

import pytest
from helpers.command import fairquant


def test_ui_opens_the_store_that_the_recipe_names(tmp_path):
    from fairquant.cli.ui import store_of
    from fairquant.errors import UserError

    recipe = tmp_path / "mine.yaml"
    recipe.write_text("dataset: {name: synthetic-lesions}\ntracking: {mlflow: 'sqlite:///elsewhere.db'}\n")
    assert store_of(str(recipe)) == "sqlite:///elsewhere.db"
    assert store_of(None) == "sqlite:///mlflow.db"
    recipe.write_text("dataset: {name: synthetic-lesions}\ntracking: {mlflow: null}\n")
    with pytest.raises(UserError, match="its runs are not tracked"):
        store_of(str(recipe))


def test_ui_ends_without_a_traceback_on_a_file_that_is_no_database(tmp_path):
    (tmp_path / "notes.db").write_text("no database\n" * 100)
    process = fairquant("ui", "--store", "sqlite:///notes.db")
    assert process.returncode == 2
    assert "sqlite:///notes.db: cannot be opened as a tracking store" in process.stderr
    assert "Traceback" not in process.stderr
