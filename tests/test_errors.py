"""What a user reads when something is wrong."""

from __future__ import annotations

import pytest

from fairquant.errors import Infeasible, PluginFailed, RunBusy, TrainingDiverged, UserError, suggestion


def test_a_single_problem_is_the_message():
    assert str(UserError("a.yaml:2: unknown key")) == "a.yaml:2: unknown key"


def test_all_problems_are_listed_with_the_file_they_are_in():
    error = UserError(["one", "two"], "a.yaml")
    assert error.render() == "2 problem(s) in a.yaml\n  one\n  two"
    assert error.problems == ("one", "two")


@pytest.mark.parametrize("kind", [Infeasible, TrainingDiverged, RunBusy, PluginFailed])
def test_every_error_that_a_user_can_mend_is_a_user_error(kind):
    assert isinstance(kind("x"), UserError)


@pytest.mark.parametrize(
    ("name", "text"), [("acuracy", " Did you mean 'accuracy'?"), ("zzz", ""), ("brier", " Did you mean 'brier'?")]
)
def test_the_closest_known_name_is_suggested_or_none(name, text):
    assert suggestion(name, ["accuracy", "brier"]) == text
