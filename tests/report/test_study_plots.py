"""A study's plots: which there are, and that they are SVG that names the study's quantities."""

from __future__ import annotations

import pytest
from helpers.reports import summary_of, trial

from fairquant.recipe.search import Objective, Parameter, Search
from fairquant.report.study import Effect
from fairquant.report.study_plots import front_plot, study_plots

TRIALS = [trial(0, 0.7, 3.0), trial(1, 0.9, 2.0, test={"accuracy": 0.88, "bits": 2.0}), trial(2, 0.8, 1.5)]


def section(objectives: int = 2) -> Search:
    both = Objective("accuracy", "maximize"), Objective("bits", "minimize")
    return Search(parameters=(Parameter(path="budget.average_bits", low=1.0, high=4.0),), objectives=both[:objectives])


@pytest.mark.parametrize(
    ("objectives", "headings"),
    [
        (2, ["Pareto front", "Parallel coordinates", "Slices"]),
        (1, ["Optimization history", "Parallel coordinates", "Slices"]),
    ],
)
def test_two_objectives_have_a_front_and_one_a_history(objectives, headings):
    plots = list(study_plots(summary_of(*TRIALS, front=(1,), objectives=objectives), section(objectives)))
    assert [heading for heading, _ in plots] == headings
    assert all(plot.startswith("<svg") for _, plot in plots)


def test_one_trial_has_nothing_to_compare_and_none_has_no_plots():
    assert len(list(study_plots(summary_of(TRIALS[1], front=(1,)), section()))) == 1
    assert list(study_plots(summary_of(trial(0, 0.7, 3.0, "failed"), front=()), section())) == []


def test_the_front_names_its_axes_and_its_trials():
    plot = front_plot(summary_of(*TRIALS, front=(1, 2)))
    for text in ("accuracy (maximize)", "bits (minimize)", "the same on test", ">1<", ">2<"):
        assert text in plot, text


def test_the_same_study_gives_the_same_bytes():
    summary = summary_of(*TRIALS, front=(1, 2))
    assert front_plot(summary) == front_plot(summary)


def effect(quantity: str) -> Effect:
    return Effect(
        parameter="budget.average_bits", quantity=quantity, moved=0.2, lowest_at="1", highest_at="4", importance=1.0
    )


@pytest.mark.parametrize("quantity", ["accuracy", "bits"])
def test_the_importance_of_parameters_is_drawn_where_it_is_known_of_the_first_objective(quantity):
    """An objective that is the same in every trial has none, though another quantity may."""
    trials = [
        trial(number, 0.8 if quantity == "bits" else 0.5 + 0.04 * number, 1.0 + 0.3 * number) for number in range(10)
    ]
    plots = dict(study_plots(summary_of(*trials, front=(0,), effects=(effect(quantity),)), section()))
    assert ("Importance of the parameters for accuracy (fANOVA)" in plots) == (quantity == "accuracy")
