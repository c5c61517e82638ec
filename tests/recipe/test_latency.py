"""A latency table, and what a budget of milliseconds needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.recipe import latency, read_recipe
from fairquant.recipe.latency import read_table, widest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "t.json:1: not JSON"),
        ("[]", 'expected {"layers"'),
        ('{"layers": {"a": 3}}', "layers.a: expected"),
        ('{"layers": {"a": {"eight": 3}}}', "layers.a: 'eight' is not a number of bits"),
        ('{"layers": {"a": {"8": -3}}}', "layers.a.8: must be milliseconds, 0 or more, got -3"),
        ('{"layers": {"a": {"08": 3}}}', "layers.a: '08' is not a number of bits"),
        ('{"layers": {"a": {"8": 1, "8": 2}}}', "'8' is given twice"),
        ('{"layers": {"a": {"8": 1}, "a": {"8": 2}}}', "'a' is given twice"),
        ('{"layers": {"a": {"8": 1' + 400 * "0" + "}}}", "layers.a.8: must be milliseconds, 0 or more, got 1000"),
        ('{"layers": {"a": {"8": 1' + 5000 * "0" + "}}}", "cannot be a latency table"),
        (100_000 * "[", "cannot be a latency table"),
        ('{"layers": {"a": {"8": true}}}', "layers.a.8: must be milliseconds, 0 or more, got True"),
    ],
)
def test_a_bad_table_is_reported(tmp_path, monkeypatch, text, problem):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_table("t.json")
    assert problem in str(caught.value)
    with pytest.raises(UserError, match="cannot read 'none.json'"):
        read_table("none.json")


def test_the_recipe_says_what_a_latency_budget_needs(tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text('{"layers": {"a": {"4": 0.1}}}')
    assert widest(read_table("t.json")) == 4
    latency = ["budget.average_bits=null", "budget.latency=3ms"]
    for overrides, message in [
        (["budget.average_bits=null", "budget.latency=3s"], ["must be a number with one of ms, us"]),
        (["budget.latency=3ms"], ["latency: a plan has one kind of cost"]),
        (latency, ["latency: needs latency_table"]),
        ([*latency, "budget.bops=3G"], ["Leave out bops or latency"]),
        ([*latency, "budget.latency_table=none.json"], ["cannot read 'none.json'", "needs units: tensor"]),
        ([*latency, "budget.latency_table=t.json", "quantize.units=tensor"], ["has times for up to 4 bits only"]),
    ]:
        with pytest.raises(UserError) as caught:
            read_recipe("quickstart", overrides, registry=registry)
        assert all(word in str(caught.value) for word in message), str(caught.value)


def test_a_table_without_times_for_any_width_is_named(tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text('{"layers": {"a": {"16": 3}}}')
    Path("r.yaml").write_text(
        "dataset: {name: synthetic-lesions}\nbudget: {average_bits: null, latency: 3 ms, latency_table: t.json}\nquantize: {units: tensor}\n"
    )
    with pytest.raises(UserError, match="budget.latency_table: has no times for any width up to 8 bits"):
        read_recipe("r.yaml", registry=registry)


def test_a_table_is_a_file_and_no_larger_than_one_can_be(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="is a folder, a device or a pipe"):
        read_table(tmp_path / "pipe.json")
    monkeypatch.setattr(latency, "MOST_BYTES", 10)
    (tmp_path / "large.json").write_text(11 * " ")
    with pytest.raises(UserError, match="larger than"):
        read_table(tmp_path / "large.json")
