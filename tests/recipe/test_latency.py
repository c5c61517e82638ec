"""A latency table, and what a budget of milliseconds needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.latency import read_table, widest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "t.json:1: not JSON"),
        ("[]", 'expected {"layers"'),
        ('{"layers": {"a": 3}}', "layers.a: expected"),
        ('{"layers": {"a": {"eight": 3}}}', "layers.a: 'eight' is not a number of bits"),
        ('{"layers": {"a": {"8": -3}}}', "layers.a.8: must be milliseconds, 0 or more, got -3"),
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
