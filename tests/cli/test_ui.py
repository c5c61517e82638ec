"""fairquant ui: which store it opens."""

from __future__ import annotations

import pytest
from helpers.command import fairquant

from fairquant.cli.ui import ui
from fairquant.errors import UserError


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


def test_the_password_of_a_store_is_neither_shown_nor_on_a_command_line(monkeypatch, capsys):
    called = []
    monkeypatch.setattr("subprocess.call", lambda command, env: called.append((command, env)) or 0)
    monkeypatch.setattr("fairquant.cli.ui.views", lambda place, address: {})
    store = "postgresql://u:S3CRET@host/db"
    with pytest.raises(SystemExit):
        ui(store=store, port=5001)
    assert "postgresql://u:...@host/db" in capsys.readouterr().out
    ((command, environment),) = called
    assert "S3CRET" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == store
    for store, message in (
        ("http://u:S3CRET@host", "is a tracking server"),
        ("nosuch://x", "must be a folder or the address"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            ui(store=store)
        assert "S3CRET" not in str(caught.value)
