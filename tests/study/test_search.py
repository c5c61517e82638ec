"""A study: every trial runs once, the front is right, test images are read at the end only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.studies import HEAD, SEARCH, SMALL
from typer.testing import CliRunner

import fairquant
from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.study.search import search


def test_a_recipe_without_the_section_says_what_it_needs():
    with pytest.raises(UserError, match="has no `search` section"):
        search("quickstart", demo=True)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    recipe = place / "searched.yaml"
    recipe.write_text(HEAD + SMALL.replace("mlflow: null", f"mlflow: 'sqlite:///{place}/ml.db'") + SEARCH)
    folder = search(recipe, trials=5, runs=place / "runs")
    return place, recipe, folder, json.loads((folder / "study.json").read_text())["results"]


def test_trials_are_ordinary_runs_that_stop_before_test_and_the_front_is_tested(studied):
    *_, results = studied
    assert len(results["trials"]) == 5
    assert {trial["state"] for trial in results["trials"]} <= {"complete", "infeasible", "failed"}
    assert results["front"]
    for trial in results["trials"]:
        run = Path(trial["folder"])
        tested = trial["number"] in results["front"]
        assert (run / "report.json").exists() == tested, trial
        assert (run / "predictions.npz").exists() == tested
        assert (trial["test"] is not None) == tested
        if trial["state"] == "complete":
            assert trial["validation"]["bits"] <= trial["parameters"]["budget.average_bits"] + 1e-9
            assert 0 < trial["validation"]["megabytes"] < 10
    conditional = [t["parameters"] for t in results["trials"]]
    assert all(("allocator.levels" in p) == (p["allocator.name"] == "quantile") for p in conditional)


def test_a_trial_gives_what_the_command_that_is_shown_gives(studied):
    place, recipe, _, results = studied
    trial = next(t for t in results["trials"] if t["number"] == results["front"][-1])
    again = fairquant.run(recipe, *trial["overrides"], "search=null", runs=place / "runs")
    assert again.was_finished
    assert str(again.folder) == trial["folder"]
    elsewhere = fairquant.run(recipe, *trial["overrides"], "search=null", runs=place / "elsewhere")
    assert elsewhere.report["bits"]["average"] == trial["test"]["bits"]
    assert elsewhere.report["metrics"]["accuracy"]["value"] == trial["test"]["accuracy"]


def test_the_page_and_the_verbs(studied, tmp_path):
    place, recipe, folder, results = studied
    page = (folder / "study.html").read_text()
    for text in (
        "Pareto front",
        "Parallel coordinates",
        "Slices",
        "Commands to reproduce them",
        "too few to report",
        "fairquant run ",
    ):
        assert text in page, text
    assert page.count("<svg") == 3  # the front, parallel coordinates, slices
    shown = CliRunner().invoke(app, ["study", "show", str(recipe), "--runs", str(place / "runs")])
    assert shown.exit_code == 0
    assert f"trial {results['front'][0]}:" in shown.output
    mine = tmp_path / "mine.yaml"
    written = CliRunner().invoke(app, ["study", "best", str(folder), "--to", str(mine)])
    assert written.exit_code == 0, written.output
    assert fairquant.run(mine, runs=place / "elsewhere").report["bits"]["average"] <= 4
    taken = CliRunner().invoke(app, ["study", "best", str(folder), "--to", str(mine)])
    assert "exists already" in str(taken.exception)


def test_the_same_command_runs_nothing_again_and_adds_more_trials(studied):
    place, recipe, folder, _ = studied
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("validation_only.json")}
    assert search(recipe, trials=6, runs=place / "runs") == folder
    results = json.loads((folder / "study.json").read_text())["results"]
    assert len(results["trials"]) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_mlflow_has_one_parent_and_named_trials(studied):
    from mlflow.tracking import MlflowClient

    place, _, folder, _ = studied
    client = MlflowClient(f"sqlite:///{place}/ml.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=100)
    parents = [run for run in runs if run.data.tags.get("kind") == "study"]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    trials = json.loads((folder / "study.json").read_text())["results"]["trials"]
    assert sorted(int(run.data.tags["trial"]) for run in children) == [trial["number"] for trial in trials]
    own = parents[0].data.metrics
    complete = [trial["validation"] for trial in trials if trial["state"] == "complete"]
    assert (own["trials"], own["trials/complete"]) == (len(trials), len(complete))
    assert own["best/bits"] == pytest.approx(min(trial["bits"] for trial in complete))
    assert not set(own) & {name for run in children for name in run.data.metrics}
    assert all(run.info.run_name.startswith("trial-") for run in children)
    assert all(
        "validation/worst-group-accuracy" in run.data.metrics
        for run in children
        if run.data.tags["state"] == "complete"
    )
    assert {run.info.status for run in children} <= {"FINISHED", "FAILED"}
