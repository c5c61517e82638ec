"""Trials: what a grid holds, and what becomes of one that fails or is hopeless."""

from __future__ import annotations

import json
from pathlib import Path

from fairquant.recipe.search import Parameter
from fairquant.study.search import grid_points, search

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
