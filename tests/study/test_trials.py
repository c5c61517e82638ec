"""Trials: what a grid holds, and what becomes of one that fails or is hopeless."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from helpers.predictions import only, random_predictions

from fairquant.errors import MachineFailed, Pruned
from fairquant.recipe.accept import read_accept
from fairquant.recipe.search import Objective, Parameter
from fairquant.runs.predictions import predictions_npz
from fairquant.runs.results import BeforeAfter
from fairquant.study.search import grid_points, search
from fairquant.study.trials import Plan, _Watch, encode_choice, suggest, trial_recipe, validation_facts

HEAD = "dataset: {name: synthetic-lesions, images: 120}\nmodel: {name: resnet10t, image_size: 32}\nmethod: fq-qat-ptq\n"


SMALL = "baseline: {epochs: 1, batch_size: 32}\ncalibration: {images: 32, batch_size: 32}\ntracking: {mlflow: null}\n"


def write(text: str, name: str = "searched.yaml") -> str:
    Path(name).write_text(text)
    return name


def test_a_grid_leaves_out_what_does_not_apply():
    points = grid_points([
        Parameter(path="allocator.name", choices=("knapsack", "quantile")), Parameter(path="seed", choices=(1, 2)),
        Parameter(path="allocator.levels", choices=((2, 4), (1, 2)), when=(("allocator.name", "quantile"),)),
    ])  # fmt: skip
    assert len(points) == 2 + 4


def test_a_trial_that_raises_is_recorded_and_the_study_continues(tmp_path, monkeypatch):
    from fairquant_fair.allocators import Knapsack

    real = Knapsack.allocate

    def breaks(self, problem):
        if problem.average_bits > 2.5:
            raise MemoryError("not enough memory")
        return real(self, problem)

    monkeypatch.setattr(Knapsack, "allocate", breaks)
    text = HEAD.replace("fq-qat-ptq", "hawq-ptq") + SMALL + (
        "search: {parameters: {budget.average_bits: [2, 3]}, objectives: {accuracy: maximize}, sampler: grid}\n"
    )  # fmt: skip
    folder = search(write(text), "importance.name=fisher")
    results = json.loads((folder / "study.json").read_text())["results"]
    assert [trial["state"] for trial in results["trials"]] == ["complete", "failed"]
    assert results["trials"][1]["problem"] == "MemoryError: not enough memory"


def test_a_full_disk_stops_the_study_and_the_same_command_runs_the_trial_again(monkeypatch):
    from fairquant_fair.allocators import Knapsack

    def full(self, problem):
        raise OSError(28, "No space left on device", "train.pt")

    text = HEAD.replace("fq-qat-ptq", "hawq-ptq") + SMALL + (
        "search: {parameters: {budget.average_bits: [2]}, objectives: {accuracy: maximize}, sampler: grid}\n"
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Knapsack, "allocate", full)
        with pytest.raises(MachineFailed, match="train.pt: No space left on device. The run can be resumed"):
            search(write(text), "importance.name=fisher")
    results = json.loads((search(write(text), "importance.name=fisher") / "study.json").read_text())["results"]
    assert [trial["state"] for trial in results["trials"]] == ["complete"]


def test_a_hopeless_trial_is_pruned_and_shown_as_such(monkeypatch):
    import optuna

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number == 1)
    text = HEAD.replace("fq-qat-ptq", "uniform-4") + SMALL.replace("mlflow: null", "mlflow: 'sqlite:///ml.db'") + (
        "train: {epochs: 2, batch_size: 32}\nsearch: {parameters: {train.learning_rate: [1.0e-3, 1.0e-4]}, "
        "objectives: {accuracy: maximize}, pruner: median, sampler: grid}\n"
    )  # fmt: skip
    results = json.loads((search(write(text)) / "study.json").read_text())["results"]
    assert [trial["state"] for trial in results["trials"]] == ["complete", "pruned"]
    assert "others were better" in results["trials"][1]["problem"]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/ml.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.data.tags.get("state"): run.info.status for run in runs}["pruned"] == "KILLED"


PARAMETERS = (
    Parameter(path="allocator.name", choices=("knapsack", "quantile")),
    Parameter(path="allocator.levels", choices=((2, 4), (1, 2)), when=(("allocator.name", "quantile"),)),
    Parameter(path="train.epochs", low=1, high=9, step=2), Parameter(path="train.learning_rate", low=1e-4, high=1e-2, log=True),
)  # fmt: skip


def test_a_conditional_parameter_is_drawn_only_where_its_condition_holds():
    drawn = {"allocator.name": "quantile", "allocator.levels": "[1, 2]", "train.epochs": 5, "train.learning_rate": 1e-3}
    assert suggest(optuna.trial.FixedTrial(drawn), PARAMETERS) == {**drawn, "allocator.levels": (1, 2)}
    del drawn["allocator.levels"]
    drawn["allocator.name"] = "knapsack"
    assert suggest(optuna.trial.FixedTrial(drawn), PARAMETERS) == drawn


@pytest.mark.parametrize(
    ("value", "encoded"), [(3, 3), (None, None), (True, True), ("a", "a"), ([2, 4], "[2, 4]"), ({"a": 1}, '{"a": 1}')]
)
def test_lists_and_mappings_become_text_that_optuna_can_keep(value, encoded):
    assert encode_choice(value) == encoded


def test_a_trials_recipe_is_the_studys_with_its_values_and_no_search(plugins):
    plan = Plan(
        recipe="quickstart", overrides=("seed=4", "regularizers=[loss-gap]"), demo=False, trials=1, storage=None, runs="runs",
        folder=Path("study"),
    )  # fmt: skip
    recipe = trial_recipe(plan, ["regularizers.loss-gap.weight=0.5"], plugins)
    assert (recipe.seed, recipe.regularizers[0].value.weight, recipe.search) == (4, 0.5, {})


def test_a_hopeless_trial_is_given_up_on_the_first_objective_of_the_quantized_training():
    reported = []
    trial = SimpleNamespace(
        report=lambda value, epoch: reported.append((value, epoch)), should_prune=lambda: len(reported) == 2
    )
    watch = _Watch(trial, SimpleNamespace(objectives=(Objective("accuracy", "maximize"),)))
    watch("baseline", {"accuracy": 0.1})
    watch("quantized", {"accuracy": 0.5})
    with pytest.raises(Pruned):
        watch("quantized", {"accuracy": 0.4})
    assert reported == [(0.5, 1), (0.4, 2)]


def test_the_facts_of_a_trial_are_validation_bits_limits_and_the_baselines(metrics, registry):
    before = random_predictions(60, seed=1)
    both = BeforeAfter(before, replace(before, logits=random_predictions(60, seed=2).logits))
    Path("validation.npz").write_bytes(predictions_npz(both))
    problems: list = []
    reached = float((both.after.predicted == both.after.labels).mean())
    section = {"accuracy": [{"at_least": bound} for bound in (0.95, 0.01, reached)], "file": {"at_most": "400kB"}}
    limits = read_accept(section, False, registry, problems)
    recipe = SimpleNamespace(metrics=[*only(metrics, "accuracy"), *only(metrics, "recall-loss")], seed=0, accept=limits)
    facts = validation_facts(recipe, Path(), {"bits": {"average": 2.5}, "artifact": {"bytes": 500_000}})
    assert (facts["bits"], facts["megabytes"]) == (2.5, 0.5)
    assert facts["accuracy"] == pytest.approx((both.after.predicted == both.after.labels).mean())
    assert facts["baseline/accuracy"] == pytest.approx((both.before.predicted == both.before.labels).mean())
    assert facts["accuracy/low"] < facts["accuracy"] < facts["accuracy/high"]
    assert (facts["limits-broken"], facts["limits-undecided"]) == (2, 1)
    assert facts["recall-loss"] > 0.1  # against the full-precision model, not against itself
    assert facts["baseline/recall-loss"] == 0
