"""The example in the role's documentation keeps the role's contract."""

from __future__ import annotations

from dataclasses import dataclass

from fairquant.roles import Reducer
from fairquant.testing import conformance


@dataclass(frozen=True)
class Median:
    """The median over groups."""

    def reduce(self, importance, group_names):
        return importance.median(0).values


def test_the_documented_reducer_is_one_and_keeps_the_contract():
    assert "return importance.median(0).values" in (Reducer.__doc__ or "")
    assert isinstance(Median(), Reducer)
    assert [each for each in conformance("reducer", Median()) if each.outcome == "failed"] == []
