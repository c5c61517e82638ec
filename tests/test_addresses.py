"""Addresses with secrets in them, as they may be shown."""

from __future__ import annotations

import time

import pytest

from fairquant.addresses import hidden_in, scrubbed, secret_problem, secret_problems, secrets_of, without_secrets

CASES = [
    ("postgresql+psycopg://alice:PW@host/db", "postgresql+psycopg://alice:...@host/db"),
    ("postgresql://alice:p@PW@host:5432/db", "postgresql://alice:...@host:5432/db"),
    ("postgresql://alice@host/db?password=PW", "postgresql://alice@host/db?password=..."),
    (
        "postgresql://host/db?user=alice&password=PW&sslmode=require",
        "postgresql://host/db?user=alice&password=...&sslmode=require",
    ),
    ("http://alice:PW@host/", "http://alice:...@host/"),
    ("https://host/path?token=PW;x=1", "https://host/path?token=...&x=1"),
    ("alice:PW@host/db", "alice:...@host/db"),
    ("http://:PW@host", "http://:...@host"),
    ("http://alice:PW?x@127.0.0.1:9", "http://alice:...@127.0.0.1:9"),
    ("http://alice:a?PW@host", "http://alice:...@host"),
    ("postgresql://u:PW?x@127.0.0.1:9/x", "postgresql://u:...@127.0.0.1:9/x"),
    ("postgresql://u:PW/x@127.0.0.1:9/x", "postgresql://u:...@127.0.0.1:9/x"),
    ("host=127.0.0.1 user=u password=PW dbname=x", "host=127.0.0.1 user=u password=... dbname=x"),
]


@pytest.mark.parametrize(("address", "shown"), CASES)
def test_secrets_are_hidden_wherever_they_stand(address, shown):
    assert without_secrets(address) == shown
    assert "PW" not in scrubbed(f"could not connect to {address}: password 'PW' was wrong", address)
    assert "PW" not in secret_problem(address)
    assert secret_problem(address)


@pytest.mark.parametrize(
    "address", ["sqlite:///runs.db", "sqlite:////a/b@c.db", "http://host:5000", "http://alice@host", "runs", ""]
)
def test_other_addresses_stay_as_they_are(address):
    assert without_secrets(address) == address
    assert secrets_of(address) == []
    assert secret_problem(address) == ""


def test_a_token_in_place_of_a_name_is_a_secret():
    address = "https://ghp_0123456789abcdef@host/x"
    assert without_secrets(address) == "https://...@host/x"
    assert secret_problem(address)
    assert "ghp" not in hidden_in(f"got {address!r}") + scrubbed(f"cannot reach {address}", address)


@pytest.mark.parametrize("address", [address for address, _ in CASES if "://" in address])
@pytest.mark.parametrize("around", ["{}", "'{}", "{{'{}': None}}", '["{}"]', "no method is called '{}'. Known: a"])
def test_secrets_are_hidden_inside_other_text(address, around):
    assert "PW" not in hidden_in(around.format(address))


def test_text_without_addresses_stays_as_it_is():
    for text in ("write to a@b.org", "see https://example.org/a@b", "at 5:00 @ home", "a: b@c"):
        assert hidden_in(text) == text


def test_secrets_are_found_in_every_value_and_key_of_a_recipe():
    address = "http://alice:PW@host"
    content = {"a": {"b": [1, {"c": address}]}, address: None, "d": "host"}
    problems = secret_problems(content)
    assert [key for key, _ in problems] == ["a.b[1].c", "http://alice:...@host"]
    assert "PW" not in str(problems)


@pytest.mark.parametrize("unit", ["x", "x://", "http://a:b@", "pass", "pass=", "@"])
def test_long_texts_are_searched_in_linear_time(unit):
    start = time.process_time()
    hidden_in(unit * 20_000)
    assert time.process_time() - start < 5
