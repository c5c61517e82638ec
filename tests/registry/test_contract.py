"""Which plugins may be used, by the contract that they were built for."""

from __future__ import annotations

import pytest

from fairquant.registry import contract
from fairquant.registry.contract import CONTRACT, objection


def test_this_contract_is_accepted():
    assert objection(CONTRACT) is None


@pytest.mark.parametrize("wrong", ["1", 1.0, True, None])
def test_a_contract_is_a_whole_number(wrong):
    assert objection(wrong) == f"FAIRQUANT_CONTRACT must be a whole number, got {wrong!r}"


def test_a_newer_contract_needs_a_newer_fairquant():
    assert objection(CONTRACT + 1).endswith("upgrade fairquant")


def test_an_older_contract_lists_every_change_since(monkeypatch):
    monkeypatch.setattr(contract, "CONTRACT", 3)
    monkeypatch.setattr(contract, "CHANGES", {0: "First.", 1: "Second.", 2: "Third."})
    text = objection(1)
    assert "upgrade the plugin" in text
    assert "Second. Third." in text
    assert "First." not in text
    assert text.endswith("then set FAIRQUANT_CONTRACT = 3")
