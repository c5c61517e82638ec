"""A comparison: its rows, the files it leaves, a method that cannot meet the budget, its tree in MLflow."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from fairquant.errors import UserError
from fairquant.report.tables import entries, header
from fairquant.study import compare, compare_all


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def comparison(place):
    return compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fp32", runs=place,
    )  # fmt: skip


def test_a_method_that_cannot_meet_the_budget_is_reported_and_the_others_run(comparison):
    rows = {row.name: row for row in comparison.rows}
    assert "cannot meet the budget" in rows["fairquantize @ 1.5"].problems[0]
    assert not rows["fairquantize @ 1.5"].metrics
    assert not rows["fairquantize @ 3"].problems
    for row in comparison.rows:
        if row.budget is not None and row.metrics:
            assert all(bits <= row.budget + 1e-9 for bits in row.bits.values)
            assert row.seeds == (0, 1)


def test_the_files_hold_the_table(comparison):
    content = json.loads((comparison.folder / "compare.json").read_text())
    assert [row["name"] for row in content["rows"]] == [row.name for row in comparison.rows]
    assert content["rows"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(
        comparison.rows[0].metrics["accuracy"].mean
    )
    page, text, tex = ((comparison.folder / f"compare.{kind}").read_text() for kind in ("html", "md", "tex"))
    for row in comparison.rows:
        assert row.name in page
        assert f"| {row.name} |" in text
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "DEMO" in page
    assert "DEMO" in text
    assert tex.count(r"\\") == 2 + len(comparison.rows)  # with the header and the permutation baselines
    assert all(len(entries(comparison, row)) == len(header(comparison)) - 1 for row in comparison.rows)


def test_all_methods_of_a_seed_share_one_baseline(comparison, place):
    assert len(list((place / "baselines").iterdir())) == 2
    for seed in (0, 1):
        folders = [o.folder for o in comparison.outcomes if o.folder is not None and o.cell.seed == seed]
        before = [np.load(folder / "predictions.npz")["baseline_logits"] for folder in folders]
        assert len(before) > 2
        assert all(np.array_equal(logits, before[0]) for logits in before)


def test_a_second_call_runs_nothing_again(comparison, place):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("report.json")}
    again = compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fp32", runs=place,
    )  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in place.rglob("report.json")} == before
    assert again.folder == comparison.folder
    assert str(again.rows) == str(comparison.rows)


def test_a_row_is_compared_with_the_reference_of_its_own_budget(place, comparison):
    """Methods at 3 bits against fq-qat at 3 bits; a row without a budget against the one nearest in bits."""
    again = compare(
        "quickstart", f"tracking.mlflow=sqlite:///{place}/ml.db", "train.epochs=1", "dataset.images=150",
        "model.name=test_resnet", "model.image_size=32",
        methods=["fp32", "uniform-2-ptq", "fq-qat", "fairquantize"], seeds=[0, 1], budgets=[1.5, 3], demo=True,
        against="fq-qat", runs=place,
    )  # fmt: skip
    rows = {row.name: row for row in again.rows}
    assert {name: row.reference for name, row in rows.items()} == {
        "fp32": "fq-qat @ 3", "uniform-2-ptq": "fq-qat @ 1.5", "fq-qat @ 1.5": None, "fq-qat @ 3": None,
        "fairquantize @ 1.5": None, "fairquantize @ 3": "fq-qat @ 3",
    }  # fmt: skip
    for row in again.rows:
        for label in ("accuracy", "worst-group-accuracy") if row.reference else ():
            apart = row.metrics[label].mean - rows[row.reference].metrics[label].mean
            assert row.against[label].value == pytest.approx(apart)
    assert "differs from fq-qat at the same budget" in (again.folder / "compare.md").read_text()


def test_mlflow_shows_one_parent_and_a_child_per_method_and_seed(comparison, place):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/ml.db")
    experiment = client.get_experiment_by_name("quickstart-demo")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags.get("kind") == "comparison"]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == sum(outcome.report is not None for outcome in comparison.outcomes)
    assert {run.data.tags["method"] for run in children} == {"fp32", "uniform-2-ptq", "fq-qat", "fairquantize"}
    assert {file.path for file in client.list_artifacts(parents[0].info.run_id)} >= {"compare.html", "compare.json"}
    own = parents[0].data.metrics
    assert (own["runs"], own["runs/failed"]) == (len(comparison.outcomes), 2)
    for row in comparison.rows:
        for label in ("accuracy", "worst-group-accuracy") if row.metrics else ():
            name = row.name.replace(" @ 1.5", " at 1.5 bits").replace(" @ 3", " at 3 bits")
            assert own[f"methods/{label}/{name}"] == pytest.approx(row.metrics[label].mean)
    assert not set(own) & set(children[0].data.metrics)


def test_several_recipes_and_networks_are_one_piece_of_work_with_one_page(tmp_path):
    options = [
        "tracking.mlflow=null",
        "dataset.images=60",
        "model.image_size=32",
        "baseline.epochs=1",
        "train.epochs=1",
    ]
    models = ["test_resnet", "test_efficientnet"]
    grid = compare_all(
        ["quickstart", "isic_resnet18"], *options, models=models, methods=["fp32", "uniform-4-ptq"], seeds=[0], demo=True, runs=tmp_path
    )  # fmt: skip
    assert [(each.recipe.name, each.recipe.model.name) for each in grid.comparisons] == [
        (recipe, model) for recipe in ("quickstart", "isic_resnet18") for model in models
    ]
    for each in grid.comparisons:
        assert [row.name for row in each.rows] == ["fp32", "uniform-4-ptq"]
        assert all(row.metrics for row in each.rows)
        assert (each.folder / "compare.html").is_file()
        for outcome in each.outcomes:
            made = yaml.safe_load((outcome.folder / "recipe.yaml").read_text())
            assert made["model"]["name"] == each.recipe.model.name
    assert len({each.folder for each in grid.comparisons}) == 4
    page = (grid.folder / "compare.html").read_text()
    assert page.count('class="network"') == 4
    listed = json.loads((grid.folder / "compare.json").read_text())["comparisons"]
    assert [each["folder"] for each in listed] == [str(each.folder) for each in grid.comparisons]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("report.json")}
    again = compare_all(
        ["quickstart", "isic_resnet18"], *options, models=models, methods=["fp32", "uniform-4-ptq"], seeds=[0], demo=True, runs=tmp_path
    )  # fmt: skip
    assert again.folder == grid.folder
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("report.json")} == before


def test_the_problems_of_every_recipe_are_said_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        compare_all(
            ["quickstart", "isic_resnet18", "nowhere"], "train.epochs=0", models=["resnet1"], methods=["fp32"], seeds=[0], demo=True,
            runs=tmp_path,
        )  # fmt: skip
    for recipe in ("quickstart", "isic_resnet18"):
        assert any(problem.startswith(f"{recipe}: ") and "train.epochs" in problem for problem in caught.value.problems)
    assert any("no recipe 'nowhere'" in problem for problem in caught.value.problems)
    assert not list(tmp_path.iterdir())
