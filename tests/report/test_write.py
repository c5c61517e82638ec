"""What lies in the folder of a finished run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.predictions import random_predictions
from helpers.reports import comparison_of, failed_row, row, summary_of, trial

from fairquant.recipe import read_recipe
from fairquant.recipe.search import Objective, Parameter, Search
from fairquant.report.comparison import Cell, Outcome, Subject
from fairquant.report.write import recipe_yaml, write_comparison, write_study, write_validation_only
from fairquant.runs.results import BeforeAfter, ValidationResults


def test_the_folder_holds_what_the_design_promises(finished):
    names = {file.name for file in finished.folder.iterdir()}
    assert names >= {
        "recipe.yaml", "report.json", "report.html", "bit_plan.csv", "predictions.npz", "validation.npz", "model.safetensors", "log.txt", "checkpoints",
    }  # fmt: skip
    assert finished.folder.name.startswith("fq-baq-seed1-")
    assert finished.folder.parent.name == "tiny"


def test_a_resolved_recipe_reads_as_the_same_recipe(registry):
    recipe = read_recipe("quickstart", ["seed=7"], registry=registry)
    Path("again.yaml").write_text(recipe_yaml(recipe))
    assert read_recipe("again.yaml", registry=registry).digest() == recipe.digest()


def test_a_trial_leaves_bits_and_bytes_and_its_validation_predictions():
    both = BeforeAfter(random_predictions(20, seed=1), random_predictions(20, seed=2))
    run = SimpleNamespace(folder=Path("run"), timings={"train": 1.5})
    content = write_validation_only(
        run, ValidationResults(validation=both, average_bits=2.5, artifact_bytes=900, plan=None)
    )
    assert content == {"bits": {"average": 2.5}, "artifact": {"bytes": 900}, "timings": {"train": 1.5}}
    assert json.loads(Path("run/validation_only.json").read_text()) == content
    assert sorted(file.name for file in Path("run").iterdir()) == [
        "bit_plan.csv",
        "validation.npz",
        "validation_only.json",
    ]


def test_a_comparison_leaves_its_table_in_four_forms_and_no_nan_in_json(registry):
    compared = replace(
        comparison_of(read_recipe("quickstart", registry=registry), row("fp32", bits=32.0), failed_row("hawq @ 1", "too few bits")),
        outcomes=(Outcome(Cell(Subject("quickstart"), "hawq", 1.0, 0), None, None, "too few bits"),), folder=Path("compare"),
    )  # fmt: skip
    write_comparison(compared)
    assert sorted(file.name for file in Path("compare").iterdir()) == [
        "compare.html",
        "compare.json",
        "compare.md",
        "compare.tex",
    ]
    content = json.loads(Path("compare/compare.json").read_text(), parse_constant=pytest.fail)
    assert set(content) == {"recipe", "references", "lower_is_better", "permutation_baselines", "rows", "runs"}
    assert content["runs"] == [{"method": "hawq", "budget": 1.0, "seed": 0, "folder": None, "problem": "too few bits"}]
    assert content["rows"][0]["metrics"]["accuracy-gap"]["deviation"] is None


def test_a_study_leaves_its_page_and_what_its_workers_have_to_know(registry):
    section = Search(
        parameters=(Parameter(path="seed", choices=(1, 2)),), objectives=(Objective("accuracy", "maximize"),)
    )
    summary = summary_of(trial(0, 0.7, 3.0), front=(0,), objectives=1)
    write_study(Path("study"), {"recipe": "tiny.yaml"}, summary, read_recipe("quickstart", registry=registry), section)
    content = json.loads(Path("study/study.json").read_text())
    assert content["recipe"] == "tiny.yaml"
    assert content["results"]["trials"][0]["validation"]["accuracy"] == 0.7
    assert Path("study/study.html").is_file()
