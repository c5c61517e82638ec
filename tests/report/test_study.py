"""What a study found: the Pareto front."""

from __future__ import annotations

from helpers.reports import NAN, summary_of, trial

from fairquant.recipe.search import Objective
from fairquant.report.study import Effect, Trial, effect_sentences, front_sentences, pareto_front


def test_the_pareto_front_by_hand():
    objectives = (Objective("a", "maximize"), Objective("b", "minimize"))

    def trial(number, a, b, state="complete"):
        return Trial(
            number=number, state=state, parameters={}, validation={"a": a, "b": b}, folder=str(number), overrides=()
        )

    trials = [
        trial(0, 1, 5),
        trial(1, 2, 5),
        trial(2, 3, 9),
        trial(3, 2, 4),
        trial(4, 9, 1, "infeasible"),
        trial(5, 0, 3),
    ]
    assert [t.number for t in pareto_front(trials, objectives)] == [5, 3, 2]
    assert [t.number for t in pareto_front(trials, objectives[:1])] == [2]


def test_of_equal_trials_the_first_is_on_the_front_and_undefined_ones_never_are():
    one = (Objective("accuracy", "maximize"),)
    assert [t.number for t in pareto_front([trial(0, 0.8, 3.0), trial(1, 0.8, 2.0), trial(2, NAN, 1.0)], one)] == [0]


def test_trials_that_ended_in_the_same_run_count_once():
    twice = [trial(0, 0.8, 3.0, folder="same"), trial(1, 0.8, 3.0, folder="same")]
    assert len(pareto_front(twice, summary_of(front=()).objectives)) == 1


def test_the_front_in_words_says_what_selection_costs():
    best = trial(1, 0.9, 3.0, test={"accuracy": 0.86, "bits": 3.0})
    other = trial(2, 0.8, 2.0, test={"accuracy": 0.78, "bits": 2.0})
    lines = front_sentences(summary_of(trial(0, 0.7, 3.0), best, other, front=(1, 2)))
    assert lines == [
        "2 trial(s) are Pareto-optimal. They were chosen on validation and tested once.",
        "Best accuracy: trial 1 with 0.900 on validation and 0.860 on test.",
        "On the front, test differs from validation by -0.030 on average, the cost of selection.",
    ]
    assert front_sentences(summary_of(front=())) == ["No trial is complete and keeps the constraints."]


def effect(parameter: str, moved: float, importance: float | None = None, quantity: str = "accuracy") -> Effect:
    return Effect(
        parameter=parameter, quantity=quantity, moved=moved, lowest_at="1", highest_at="4", importance=importance
    )  # fmt: skip


def test_effects_in_words():
    lines = effect_sentences(summary_of(front=(), effects=(effect("bits", 0.1234, 0.8), effect("rate", 0.02))))
    assert lines[0] == (
        "accuracy changes with bits by 0.123 (lowest at 1, highest at 4; 80 % of the variance); rate by 0.020 (lowest at 1, "
        "highest at 4)."
    )
    assert "credited with the effect of another" in lines[1]


def test_too_few_trials_or_no_change_report_no_effect():
    assert "too few to report the effects" in effect_sentences(summary_of(front=()))[0]
    assert effect_sentences(summary_of(front=(), effects=(effect("rate", 1e-5),))) == [
        "No parameter changes accuracy by 0.0005 or more."
    ]
