"""From a storage to a summary: states, broken constraints, and how far each parameter moves each quantity."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from fairquant.recipe.constraints import Constraint
from fairquant.recipe.search import Objective, Parameter, Search
from fairquant.report.study import FEWEST, Trial
from fairquant.study.summary import effects, summarise
from fairquant.study.trials import Plan

SECTION = Search(
    parameters=(Parameter(path="bits", low=1.0, high=4.0), Parameter(path="kind", choices=("a", "b")), Parameter(path="seed", choices=(0,))),
    objectives=(Objective("accuracy", "maximize"),), constraints=(Constraint("accuracy", True, -0.1, True),),
)  # fmt: skip
PLAN = Plan(recipe="tiny.yaml", overrides=(), demo=False, trials=3, storage=None, runs="runs", folder=Path("study-abc"))


def stored(accuracy: float | None, state: str = "COMPLETE", **attributes: object) -> optuna.trial.FrozenTrial:
    facts = {} if accuracy is None else {"accuracy": accuracy, "baseline/accuracy": 0.7}
    return optuna.trial.create_trial(
        params={"bits": 2.0}, distributions={"bits": optuna.distributions.FloatDistribution(1, 4)},
        values=None if accuracy is None or state != "COMPLETE" else [accuracy], state=optuna.trial.TrialState[state],
        user_attrs={**facts, "worker": 7, "overrides": ["bits=2.0"], **attributes},
    )  # fmt: skip


@pytest.fixture
def summary():
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(direction="maximize")
    for each in (
        stored(0.8, folder="one"), stored(0.5, folder="two"), stored(None, "FAIL", problem="MemoryError: full"),
        stored(None, "PRUNED", problem="pruned"), stored(None, "PRUNED", superfluous=True), stored(None, "RUNNING"),
    ):  # fmt: skip
        study.add_trial(each)
    return summarise(PLAN, SECTION, study)


def test_every_trial_has_its_state_and_superfluous_ones_are_left_out(summary):
    assert [trial.state for trial in summary.trials] == ["complete", "infeasible", "failed", "pruned", "unfinished"]
    assert summary.trials[1].broken == ("accuracy at least baseline - 0.1",)
    assert summary.trials[2].problem == "MemoryError: full"


def test_the_front_holds_feasible_trials_only(summary):
    assert summary.front == (0,)
    assert summary.on_front()[0].overrides == ("bits=2.0",)


def test_what_is_no_quantity_of_the_run_is_not_among_its_facts(summary):
    assert set(summary.trials[0].validation) == {"accuracy", "baseline/accuracy"}


def finished(count: int) -> list[Trial]:
    """Accuracy rises with the bits, kind b costs a tenth, the seed does nothing."""
    trials = []
    for number in range(count):
        bits, kind = 1.0 + 3.0 * number / (count - 1), "ab"[number % 2]
        accuracy = 0.5 + 0.1 * bits - 0.1 * (kind == "b")
        trials.append(
            Trial(
                number=number, state="complete", parameters={"bits": bits, "kind": kind, "seed": 0}, validation={"accuracy": accuracy},
                folder=str(number), overrides=(),
            )
        )  # fmt: skip
    return trials


def test_the_effect_of_a_parameter_is_the_range_of_its_means():
    moved = {effect.parameter: effect for effect in effects(finished(20), SECTION)}
    assert set(moved) == {"bits", "kind"}  # a parameter with one value has no effect
    assert moved["kind"].moved == pytest.approx(0.1 - 0.1 * 3 / 19)
    assert (moved["kind"].lowest_at, moved["kind"].highest_at) == ("b", "a")
    assert moved["bits"].lowest_at.startswith("1 to")
    assert moved["bits"].highest_at.endswith("to 4")
    assert moved["bits"].importance + moved["kind"].importance == pytest.approx(1, abs=0.05)


def test_the_largest_effect_comes_first():
    assert [effect.parameter for effect in effects(finished(20), SECTION)] == ["bits", "kind"]


def test_too_few_trials_or_equal_results_have_no_effects():
    assert effects(finished(FEWEST - 1), SECTION) == ()
    equal = [Trial(**{**vars(trial), "validation": {"accuracy": 0.5}}) for trial in finished(20)]
    assert effects(equal, SECTION) == ()
