"""What a study found: the Pareto front."""

from __future__ import annotations

from fairquant.recipe.search import Objective
from fairquant.study.summary import Trial, pareto_front


def test_the_pareto_front_by_hand():
    objectives = (Objective("a", "maximize"), Objective("b", "minimize"))

    def trial(number, a, b, state="complete"):
        return Trial(number=number, state=state, parameters={}, validation={"a": a, "b": b}, folder=str(number), overrides=())

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
