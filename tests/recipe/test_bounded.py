"""Recipes that are larger than any recipe, or hold numbers that are none."""

from __future__ import annotations

import time

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe

HEAD = "dataset: {name: synthetic-lesions, images: 60}\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
CASES = {
    "deep lists": (f"{HEAD}metrics: {'[' * 3000}{']' * 3000}\n", "more than 64 deep"),
    "deep mappings": (f"{HEAD}budget: {'{a: ' * 3000}1{'}' * 3000}\n", "more than 64 deep"),
    "digits": (f"{HEAD}seed: {'9' * 5000}\n", "a number of 5000 digits"),
    "hexadecimal digits": (f"{HEAD}seed: 0x{'f' * 6000}\n", "a number of 6002 digits"),
    "binary digits": (f"{HEAD}seed: 0b{'1' * 20_000}\n", "a number of 20002 digits"),
    "to the base 60": (f"{HEAD}seed: {':'.join('1' * 200_000)}\n", "a number of 399999 digits"),
    "a fraction to the base 60": (f"{HEAD}train: {{learning_rate: {':'.join('1' * 5000)}.5}}\n", "a number of 10001 digits"),
    "large": (f"{HEAD}seed: 18446744073709551616\n", "18446744073709551616 is too large"),
    "seed": (f"{HEAD}seed: 4294967296\n", "expected a whole number from 0 to"),
    "billion laughs": (f"{HEAD}{LAUGHS}", "aliases stand for more than 100000 values"),
    "an alias in itself": (f"{HEAD}metrics: &a [*a]\n", "an alias .* stands within what it names"),
    "many values": (f"{HEAD}metrics: [{', '.join(['a'] * 200_000)}]\n", "more than 100000 values"),
    "not a number": (f"{HEAD}train: {{learning_rate: .nan}}\n", "train.learning_rate: must be a finite number, got nan"),
    "infinity": (f"{HEAD}train: {{bit_confidence: .inf}}\n", "train.bit_confidence: must be a finite number, got inf"),
    "infinity in a limit": (f"{HEAD}accept: {{accuracy: {{loss_at_most: .inf}}}}\n", "must be a finite number, got inf"),
    "infinity in a search": (f"{HEAD}search: {{parameters: {{seed: [.inf]}}}}\n", r"search.parameters.seed\[0\]: must be a finite"),
    "workers": (f"{HEAD}train: {{workers: -1}}\n", "train.workers: must be at least 0"),
    "rounds": (f"{HEAD}train: {{rounds: 1000000}}\n", "train.rounds: must be at most 1000"),
    "split seed": ("dataset: {name: synthetic-lesions, split_seed: -1}\n", "dataset.split_seed: must be at least 0"),
    "a date that is none": (f"{HEAD}seed: 2026-99-99\n", "r.yaml"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES.keys())
def test_they_are_refused_at_once_in_words(text, message, tmp_path, registry):
    (tmp_path / "r.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(UserError, match=message):
        read_recipe(tmp_path / "r.yaml", registry=registry, searching=True)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"seed={'9' * 5000}", "a number of 5000 digits"), (f"metrics={'[' * 300}{']' * 300}", "more than 64 deep"),
        ("train.learning_rate=.inf", "must be a finite number"), ("seed=${oc.env:HOME}", "calls a resolver"),
        ("metrics=[accuracy", "cannot be read"), ("seed=[", "cannot be read"),
        ("tracking.mlflow=http://alice:PW@host", "must hold no password"),
        ("tracking.mlflow=http://host/?token=PW", "must hold no password"),
        ("tracking.mlflow='http:/alice:PW@host'", "mlflow: "), ("tracking.mlflow='http://host/#access_key=PW'", "is not an address of the form"),
        ("tracking.mlflow='//alice:PW@host'", "looks like an address with a password"), ("tracking.mlflow='http://host/;password:PW'", "is not an address"),
        ("tracking.mlflow='HTTP://alice%3APW%40host'", "mlflow: "), ("tracking.mlflow='https://alice:PW＠host'", "must hold no password"),
    ],
)  # fmt: skip
def test_so_are_overrides_and_no_secret_is_repeated(override, message, tmp_path, registry, monkeypatch):
    monkeypatch.setenv("HOME", "/home/PW")
    (tmp_path / "r.yaml").write_text(HEAD)
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(tmp_path / "r.yaml", [override], registry=registry)
    assert "PW" not in str(caught.value)


def test_an_environment_variable_in_a_search_is_refused(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("MYSECRET", "PW")
    search = "search: {parameters: {tracking.experiment: ['${oc.env:MYSECRET}']}, objectives: {accuracy: maximize}}\n"
    (tmp_path / "r.yaml").write_text(HEAD + search)
    with pytest.raises(UserError, match="calls a resolver") as caught:
        read_recipe(tmp_path / "r.yaml", registry=registry, searching=True)
    assert "PW" not in str(caught.value)


@pytest.mark.parametrize("name", ["...yaml", ".hidden.yaml", "a:b.yaml", "a\nb.yaml"])
def test_a_name_that_is_no_folders_is_refused(name, tmp_path, registry):
    (tmp_path / name).write_text(HEAD)
    with pytest.raises(UserError, match="cannot be the name of a folder of runs"):
        read_recipe(tmp_path / name, registry=registry)
