"""What a paired difference says in words."""

from __future__ import annotations

import pytest

from fairquant.report.comparison import Difference
from fairquant.report.diff import words

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "said"),
    [(0.1, 0.3, False, "B better"), (-0.3, -0.1, False, "B worse"), (0.1, 0.3, True, "B worse"),
     (-0.3, -0.1, True, "B better"), (-0.1, 0.1, False, "no difference shown"), (0.0, 0.1, True, "no difference shown")],
)  # fmt: skip
def test_the_words_follow_the_interval_and_the_direction(low, high, lower_is_better, said):
    assert words(Difference((low + high) / 2, low, high), lower_is_better) == said


def test_nothing_is_said_where_nothing_is_known():
    assert words(None, False) == words(Difference(NAN, NAN, NAN), False) == ""
    assert words(Difference(0.5, NAN, NAN), False) == "no difference shown"
