"""A server that hangs costs seconds once."""

from __future__ import annotations

import time

import pytest
from fairquant_mlflow.patience import is_slow, mark_slow, within


def test_a_server_that_hangs_is_given_up_after_a_while():
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="MLflow at 'http://slow' has not taken an epoch within 0 s"):
        within(0.2, "http://slow", "an epoch", lambda: time.sleep(60))
    assert time.monotonic() - start < 30


def test_a_database_here_is_not_hurried_and_errors_pass():
    done = []
    within(0.0, "sqlite:///a.db", "an epoch", lambda: done.append(time.sleep(0.05)))
    within(5.0, "http://quick", "an epoch", lambda: done.append(None))
    assert len(done) == 2

    def fails() -> None:
        raise ConnectionError("no")

    for store in ("sqlite:///a.db", "https://x"):
        with pytest.raises(ConnectionError):
            within(5.0, store, "an epoch", fails)


def test_a_slow_server_is_remembered(tmp_path):
    assert not is_slow(tmp_path)
    mark_slow(tmp_path)
    assert is_slow(tmp_path)
