"""Constraints of a study: bounds of quantities, and the answer to the recipe's limits."""

from __future__ import annotations

import pytest

from fairquant.recipe.constraints import BROKEN, UNDECIDED, read_constraints

KNOWN = ("accuracy", "bits", BROKEN, UNDECIDED)


def read(quantity: str, bounds: object):
    problems = []
    return read_constraints(quantity, bounds, KNOWN, problems), problems


def test_the_answer_pass_wants_every_limit_kept_and_cannot_tell_none_broken():
    passed, none_broken = read("accept", "PASS")[0], read("accept", "CANNOT TELL")[0]
    assert [each.text() for each in passed] == ["limits-broken at most 0", "limits-undecided at most 0"]
    assert [each.text() for each in none_broken] == ["limits-broken at most 0"]
    assert passed[1].violation(3.0, None) == 3.0


@pytest.mark.parametrize("answer", ["FAIL", True, None, {"at_most": 0}])
def test_another_answer_is_refused(answer):
    constraints, problems = read("accept", answer)
    assert constraints == []
    assert problems[0][0] == "search.constraints.accept"
    assert "PASS" in problems[0][1]


@pytest.mark.parametrize("bound", ["baseline - 1.2.3", "baseline -", "baseline * 2", "base", [1], True])
def test_a_bound_that_is_no_number_is_a_problem_and_no_traceback(bound):
    constraints, problems = read("accuracy", {"at_least": bound})
    assert constraints == []
    assert problems == [
        ("search.constraints.accuracy.at_least", f"expected a number or 'baseline - 0.01', got {bound!r}")
    ]


@pytest.mark.parametrize(
    ("text", "offset"),
    [("baseline", 0.0), ("baseline - 0.01", -0.01), ("baseline+1e-2", 0.01), ("baseline - .5", -0.5)],
)
def test_a_bound_may_count_from_the_full_precision_model(text, offset):
    (constraint,), problems = read("accuracy", {"at_least": text})
    assert problems == []
    assert constraint.from_baseline
    assert constraint.value == offset
    assert constraint.violation(0.6, 0.7) == pytest.approx(0.1 + offset)


def test_bits_have_no_baseline():
    assert "the baseline has no bits" in read("bits", {"at_most": "baseline"})[1][0][1]
