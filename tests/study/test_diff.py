"""Two runs or artifacts side by side: every number against a direct computation, and each way to give the two."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fairquant_fair.accuracy import Accuracy, AccuracyGap, BalancedAccuracy
from helpers.models import Triples
from helpers.predictions import two_models

import fairquant
from fairquant.audit.cells import cells_of
from fairquant.audit.change import change_against
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.report.diff import Flips
from fairquant.roles import OperatingPoint
from fairquant.study import diff
from fairquant.study.diff import _groups, _quantities, flips, recipe_keys
from fairquant.study.matching import Matched
from fairquant.study.proportions import Recall, decided, proportion
from fairquant.study.sides import open_source
from fairquant.study.statistics import REPLICATES

METRICS = [Component("accuracy", Accuracy()), Component("accuracy-gap", AccuracyGap())]


def matched(pairing: str = "same") -> Matched:
    return Matched(*two_models(), pairing, ())


def quantiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).tolist()


def test_paired_intervals_are_those_of_drawing_the_images_of_both_together():
    pair = matched()
    right = [each.predicted == each.labels for each in (pair.a, pair.b)]
    rows = np.random.default_rng([5, 0xC0DE]).integers(0, 40, (REPLICATES, 40))
    balanced = _quantities(pair, [Component("balanced", BalancedAccuracy())], seed=5)[0]
    of_class = [
        [
            (each[rows] & (pair.a.labels[rows] == c)).sum(1) / (pair.a.labels[rows] == c).sum(1)
            for c in np.unique(pair.a.labels)
        ]
        for each in right
    ]
    drawn = np.mean(of_class[1], 0) - np.mean(of_class[0], 0)
    assert [balanced.difference.low, balanced.difference.high] == pytest.approx(quantiles(drawn))


def test_fractions_of_images_have_the_intervals_of_the_report():
    """Wilson's and Tango's: of a class of four images, none of which is found, little is known."""
    pair = matched()
    accuracy = _quantities(pair, METRICS, seed=5)[0]
    cells = cells_of(pair.b, pair.a)
    for name, quantity in [("c2", proportion("c2", Recall(2), pair.a, pair.b, True)), ("", accuracy)]:
        if name:
            cell = next(each for each in cells.of("sensitivity", "all images") if each.label == pair.a.class_names[2])
            assert (quantity.a.low, quantity.a.high) == pytest.approx((cell.before.low, cell.before.high))
            assert (quantity.difference.value, quantity.difference.low, quantity.difference.high) == pytest.approx(
                cell.change
            )
            assert quantity.images == (cell.before.images, cell.after.images)
    change = change_against(pair.b, pair.a)["accuracy"]
    assert (accuracy.difference.low, accuracy.difference.high) == pytest.approx((change.low, change.high))
    assert proportion("none", BalancedAccuracy(), pair.a, pair.b, True) is None


def test_decisions_at_the_thresholds_stand_side_by_side():
    a, b = two_models()
    a, b = (replace(each, operating=OperatingPoint((0, 2), threshold)) for each, threshold in ((a, 0.5), (b, 0.6)))
    rows = {each.label: each for each in decided(a, b, True)}
    positive = np.isin(a.labels, (0, 2))
    found = [each.score((0, 2)) >= point for each, point in ((a, 0.5), (b, 0.6))]
    shown = rows["sensitivity, all images"]
    assert shown.a.value == pytest.approx(found[0][positive].mean())
    assert shown.difference.value == pytest.approx(found[1][positive].mean() - found[0][positive].mean())
    assert rows[f"specificity, {a.group_names[1]}"].images == (int((~positive & (a.groups == 1)).sum()),) * 2
    assert decided(a, replace(b, operating=None), True) == ()


def test_a_groups_change_and_flips_are_those_of_its_images():
    pair = matched()
    group = _groups(pair)[1]
    mine = pair.a.groups == 1
    right = [(each.predicted == each.labels)[mine] for each in (pair.a, pair.b)]
    assert group.images == (mine.sum(), mine.sum())
    assert (group.a.value, group.b.value) == (pytest.approx(right[0].mean()), pytest.approx(right[1].mean()))
    assert group.change.value == pytest.approx(right[1].mean() - right[0].mean())
    rows = np.random.default_rng(9).integers(0, mine.sum(), (4000, mine.sum()))
    drawn = quantiles(right[1][rows].mean(1) - right[0][rows].mean(1))
    assert [group.change.low, group.change.high] == pytest.approx(drawn, abs=2 / mine.sum())
    assert group.flips == Flips(
        int((pair.a.predicted != pair.b.predicted)[mine].sum()), int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    )  # fmt: skip
    assert 0 < group.flips.newly_wrong <= group.flips.changed


def test_flips_count_each_kind_once():
    a, b = two_models()
    whole = flips(a, b)
    assert whole.changed >= whole.newly_wrong + whole.newly_right
    back = flips(b, a)
    assert (back.changed, back.newly_wrong, back.newly_right) == (whole.changed, whole.newly_right, whole.newly_wrong)


def test_where_nothing_is_paired_both_have_their_numbers_and_no_difference():
    a, b = two_models()
    apart = Matched(a, replace(b.take(np.arange(25)), group_names=("g0", "g1", "other")), "none", ())
    assert all(each.difference is None and each.a.value == each.a.value for each in _quantities(apart, METRICS, 0))
    groups = {group.name: group for group in _groups(apart)}
    assert list(groups) == ["g0", "g1", "g2", "other"]
    assert (groups["g2"].b, groups["g2"].images[1], groups["other"].a) == (None, 0, None)
    assert all(group.change is None and group.flips is None for group in groups.values())


def test_the_recall_of_a_class_is_over_all_groups_and_undefined_without_its_images():
    a, b = two_models()
    every = proportion("c0", Recall(0), a, b, True)
    assert every.a.value == pytest.approx((a.predicted == 0)[a.labels == 0].mean())
    none = a.take(np.flatnonzero(a.labels != 0)), b.take(np.flatnonzero(a.labels != 0))
    absent = proportion("c0", Recall(0), *none, True)
    assert np.isnan(absent.a.value) and np.isnan(absent.difference.value)


def test_only_what_differs_in_the_recipes_is_shown():
    one = {"seed": 1, "importance": None, "train": {"epochs": 2, "x": 1}, "metrics": [{"name": "a"}, {"name": "b"}]}
    other = {
        "seed": 1,
        "importance": {"name": "fisher"},
        "train": {"epochs": 3, "x": 1},
        "metrics": [{"name": "b"}],
        "z": None,
    }
    assert [(each.key, each.a, each.b) for each in recipe_keys(one, other)] == [
        ("train.epochs", "2", "3"), ("metrics", '[{"name": "a"}]', "[]"), ("importance.name", "", "fisher"), ("z", "", "null"),
    ]  # fmt: skip
    assert recipe_keys(one, one) == ()


def test_two_runs_are_paired_and_agree_with_their_reports(quickstart_runs):
    result = diff(*quickstart_runs)
    reports = [json.loads((folder / "report.json").read_text()) for folder in quickstart_runs]
    assert (result.pairing, result.images, result.demo) == ("same", result.a.images, True)
    for quantity in result.metrics:
        for side, report in zip((quantity.a, quantity.b), reports, strict=True):
            stored = report["metrics"][quantity.label]
            assert [side.value, side.low, side.high] == pytest.approx(
                [np.nan if stored[key] is None else stored[key] for key in ("value", "low", "high")], nan_ok=True
            )
    assert [each.bits for each in (result.a, result.b)] == [report["bits"]["average"] for report in reports]
    assert "method" in [each.key for each in result.recipe]
    assert {each.label for each in result.classes} == set(reports[0]["dataset"]["classes"])


def test_artifacts_elsewhere_predict_the_same_on_the_data_of_their_recipe(quickstart_runs, tmp_path):
    files = []
    for number, folder in enumerate(quickstart_runs):
        (tmp_path / str(number)).mkdir()
        files.append(Path(shutil.copy(folder / "model.safetensors", tmp_path / str(number))))
    stored, made = diff(*quickstart_runs), diff(*files)
    assert (made.a.predictions, stored.a.predictions) == ("made now, in PyTorch", "predictions.npz")
    assert made.metrics[0] == stored.metrics[0]
    assert [group.flips for group in made.groups] == [group.flips for group in stored.groups]
    assert made.notes == stored.notes == ()
    assert {each.key for each in made.recipe} == {each.key for each in stored.recipe}


def test_an_artifact_in_its_runs_folder_has_the_runs_predictions_unless_it_is_another(quickstart_runs, tmp_path):
    plain, dead = quickstart_runs
    same = diff(plain, plain / "model.safetensors")
    assert same.b.predictions == "predictions.npz"
    assert same.flips == Flips(0, 0, 0)
    assert same.recipe == ()
    shutil.copy(dead / "model.safetensors", tmp_path)
    for name in ("report.json", "predictions.npz"):
        shutil.copy(plain / name, tmp_path)  # of another file
    other = diff(dead, tmp_path / "model.safetensors")
    assert other.b.predictions == "made now, in PyTorch"
    assert other.flips.changed == 0


def test_an_export_is_compared_with_the_run_it_came_from(quickstart_runs, exported):
    result = diff(quickstart_runs[0], exported[0])
    assert (result.pairing, result.b.predictions) == ("same", "made now, in ONNX Runtime")
    assert result.b.bytes == exported[0].stat().st_size
    assert result.b.bits == pytest.approx(result.a.bits)


def test_other_data_test_both_again_and_a_smaller_part_is_matched_by_id(quickstart_runs, tmp_path):
    other = diff(*quickstart_runs, "dataset.images=80", dataset="synthetic-lesions", every=True)
    assert (other.pairing, other.images) == ("same", 80)
    shutil.copy(quickstart_runs[1] / "model.safetensors", tmp_path)
    drawn = diff(quickstart_runs[0], tmp_path / "model.safetensors", "dataset.split_seed=7")
    assert drawn.pairing == "none"
    assert any("may have been trained on some of them" in note for note in drawn.notes)
    part = tmp_path / "part"
    shutil.copytree(quickstart_runs[1], part)
    with np.load(part / "predictions.npz") as stored:
        per_image = ("logits", "baseline_logits", "labels", "groups", "ids")
        half = {key: stored[key][::2] if key in per_image else stored[key] for key in stored}
    np.savez(part / "predictions.npz", **half)
    common = diff(quickstart_runs[0], part)
    assert (common.pairing, common.images) == ("common", len(half["labels"]))


def test_what_cannot_be_compared_is_refused_with_a_reason(quickstart_runs, tmp_path):
    with pytest.raises(UserError, match="dataset.images=90: without effect"):
        diff(*quickstart_runs, "dataset.images=90")
    with pytest.raises(UserError, match="--all: only with --dataset"):
        diff(*quickstart_runs, every=True)
    with pytest.raises(UserError) as caught:
        diff(tmp_path, tmp_path / "nowhere")
    assert len(caught.value.problems) == 2
    other = tmp_path / "other"
    shutil.copytree(quickstart_runs[1], other)
    with np.load(other / "predictions.npz") as stored:
        names = stored["class_names"].copy()
        names[0] = "wart"
        np.savez(other / "predictions.npz", **{**dict(stored), "class_names": names})
    with pytest.raises(UserError, match="the classes differ.*only B has 'wart'"):
        diff(quickstart_runs[0], other)


def test_runs_from_python_are_compared_by_their_predictions(small):
    made = [
        fairquant.quantize(small, Triples(64, 0), Triples(32, 1), Triples(32, 2), method=method, overrides=("train.epochs=1", "tracking.mlflow=null"))
        for method in ("fq-qat-ptq", "uniform-4-ptq")
    ]  # fmt: skip
    result = diff(*(each.folder for each in made))
    assert (result.pairing, result.images) == ("same", 32)
    with pytest.raises(UserError, match="data in Python's memory"):
        diff(made[0].folder, shutil.copy(made[1].folder / "model.safetensors", "moved.safetensors"))


def test_files_of_other_image_sizes_see_the_same_images_each_at_its_own(finished, quickstart_runs):
    sizes = [
        open_source(folder, True).metadata["preprocessing"]["image_size"]
        for folder in (finished.folder, quickstart_runs[0])
    ]
    assert sizes[0] != sizes[1]
    result = diff(finished.folder, quickstart_runs[0], "dataset.images=70", dataset="synthetic-lesions", every=True)
    assert (result.pairing, result.images) == ("same", 70)


def test_the_answer_is_shown_with_the_predictions_that_it_is_about(quickstart_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quickstart_runs[0], run)
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "accept": {"answer": "FAIL", "limits": []}}))
    assert diff(run, run / "model.safetensors").a.answer == "FAIL"
    assert diff(run, run, "dataset.images=70", dataset="synthetic-lesions").a.answer is None
