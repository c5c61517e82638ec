"""fairquant study: show and best, from a study's folder or its recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.cli.study import find_study
from fairquant.errors import UserError

RECIPE = "dataset: {name: synthetic-lesions}\nseed: 5\n"


def result(number: int, accuracy: float, bits: float, test: float | None = None) -> dict:
    return {
        "number": number, "state": "complete", "parameters": {"budget.average_bits": bits}, "folder": f"runs/{number}",
        "validation": {"accuracy": accuracy, "bits": bits}, "test": None if test is None else {"accuracy": test, "bits": bits},
    }  # fmt: skip


@pytest.fixture
def study() -> Path:
    """Three trials, two of them on the front."""
    folder = Path("runs/mine/study-abc")
    for each in (folder, Path("runs/1"), Path("runs/2")):
        each.mkdir(parents=True)
    (Path("runs/2") / "recipe.yaml").write_text(RECIPE)
    (Path("runs/1") / "recipe.yaml").write_text(RECIPE.replace("5", "6"))
    objectives = [{"quantity": "accuracy", "direction": "maximize"}, {"quantity": "bits", "direction": "minimize"}]
    trials = [result(0, 0.5, 4.0), result(1, 0.7, 2.0, 0.68), result(2, 0.9, 3.5, 0.88)]
    results = {"objectives": objectives, "trials": trials, "front": [1, 2]}
    (folder / "study.json").write_text(json.dumps({"recipe": "mine.yaml", "results": results}))
    return folder


def call(*arguments: str):
    return CliRunner().invoke(app, ["study", *arguments])


@pytest.mark.parametrize("given", ["runs/mine/study-abc", "mine.yaml", "mine"])
def test_a_study_is_found_by_its_folder_or_its_recipe(study, given):
    assert find_study(Path(given), None) == study


def test_the_front_is_shown_with_validation_and_test(study):
    output = call("show", str(study)).output
    assert "3 trials: 3 complete. Pareto-optimal, as accuracy, bits on validation (test):" in output
    assert "trial 2: 0.900 (0.880), 3.500 (3.500)  budget.average_bits=3.5" in output
    assert "trial 0" not in output


def test_the_best_recipe_is_that_of_the_first_objective_or_the_trial_named(study):
    assert call("best", str(study), "--to", "best.yaml").exit_code == 0
    assert Path("best.yaml").read_text() == "# Trial 2 of study-abc: accuracy 0.9000 on validation\n" + RECIPE
    call("best", str(study), "--to", "other.yaml", "--trial", "1")
    assert "seed: 6" in Path("other.yaml").read_text()


def test_a_trial_off_the_front_and_a_file_that_exists_are_refused(study):
    assert "no such trial on its front. Trials there: 1, 2" in str(
        call("best", str(study), "--to", "x.yaml", "--trial", "0").exception
    )
    Path("x.yaml").touch()
    assert "exists already" in str(call("best", str(study), "--to", "x.yaml").exception)


def test_a_recipe_without_a_study_and_a_study_that_is_not_finished_are_reported(study):
    with pytest.raises(UserError, match="neither a study's folder nor a recipe with a study"):
        find_study(Path("other.yaml"), None)
    (study / "study.json").write_text("{}")
    assert "the study is not finished" in str(call("show", str(study)).exception)
