"""Where the MLflow UI shows the runs of a store."""

from __future__ import annotations

from types import SimpleNamespace

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from fairquant.errors import UserError
from fairquant.report.tracking import tracking_views

ADDRESS = "http://127.0.0.1:5000"


def store_with(monkeypatch: pytest.MonkeyPatch, search) -> list[str]:
    """A store whose experiments `search` gives; returns the addresses that were opened."""
    opened: list[str] = []

    def client(address: str) -> SimpleNamespace:
        opened.append(address)
        return SimpleNamespace(search_experiments=search)

    monkeypatch.setattr(mlflow, "MlflowClient", client)
    return opened


def test_experiments_with_a_view_of_ours_are_listed_and_others_are_not(monkeypatch, tmp_path):
    experiments = [
        SimpleNamespace(name="lesions", experiment_id="7", tags={"mlflow.sharedViewState.fairquant": "{}"}),
        SimpleNamespace(name="another program's", experiment_id="8", tags={"owner": "someone"}),
    ]
    opened = store_with(monkeypatch, lambda: experiments)
    expected = {"lesions": f"{ADDRESS}/#/experiments/7/runs?viewStateShareKey=fairquant"}
    assert tracking_views("sqlite:///ml.db", ADDRESS) == expected
    assert opened == [f"sqlite:///{tmp_path}/ml.db"]


def test_a_store_that_does_not_answer_has_none(monkeypatch):
    def refuse():
        raise MlflowException("cannot be reached")

    store_with(monkeypatch, refuse)
    assert tracking_views("http://127.0.0.1:9", ADDRESS) == {}


@pytest.mark.parametrize("make", [lambda file: file.write_text("no database\n" * 100), lambda file: file.mkdir()])
def test_a_file_that_is_no_database_is_named(tmp_path, make):
    make(tmp_path / "notes.db")
    with pytest.raises(UserError, match=r"sqlite:///notes\.db: cannot be opened as a tracking store: .*(database)"):
        tracking_views("sqlite:///notes.db", ADDRESS)
