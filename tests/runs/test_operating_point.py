"""An operating point from the recipe to the decision: chosen on validation, carried by every file, applied by predict."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fairquant.artifact import load
from fairquant.audit.operating import choose_threshold
from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.recipe.sections import OperatingPointSettings
from fairquant.runs.predictions import read_predictions

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def point(operated):
    return json.loads((operated / "report.json").read_text())["operating_point"]


def test_the_thresholds_are_those_of_validation_and_come_back_with_the_predictions(operated, point):
    settings = OperatingPointSettings(classes=("melanoma",), sensitivity=0.8, partial_from=0.5)
    validation, test = (read_predictions(operated / name) for name in ("validation.npz", "predictions.npz"))
    chosen = [choose_threshold(each, settings) for each in (validation.before, validation.after)]
    assert point["thresholds"] == [each.threshold for each in chosen]
    assert [test.before.operating, test.after.operating] == chosen
    assert (point["classes"], point["target"]) == (["melanoma"], "sensitivity 0.8")
    positive = validation.after.labels == 1
    assert (validation.after.score((1,))[positive] >= point["thresholds"][1]).mean() >= 0.8
    rates = {each["rate"]: each for each in point["rates"] if each["scope"] == "all images"}
    melanoma = test.after.labels == 1
    found = test.after.score((1,)) >= point["thresholds"][1]
    assert rates["operating-point sensitivity"]["after"] == pytest.approx(found[melanoma].mean())
    assert rates["operating-point specificity"]["after"] == pytest.approx((~found)[~melanoma].mean())
    assert {each["kind"] for each in point["areas"]} == {"auc", "partial auc"}


def test_the_default_limits_are_also_at_the_operating_point(operated):
    names = {each["name"] for each in json.loads((operated / "report.json").read_text())["accept"]["limits"]}
    assert {
        "operating-point-sensitivity",
        "operating-point-specificity",
        "operating-point-sensitivity in 'tones I-III'",
    } <= names


def test_the_audit_is_of_the_real_groups_whoever_is_protected(operated):
    report = json.loads((operated / "report.json").read_text())
    assert set(report["change"]["accuracy"]["by_group"]) == {"tones I-III", "tones IV-VI"}
    assert "protect:\n- melanoma" in (operated / "recipe.yaml").read_text()


def test_every_file_carries_the_models_own_threshold(operated, point):
    onnx = pytest.importorskip("onnx")
    artifact = load(operated / "model.safetensors").fairquant_metadata["operating_point"]
    model = onnx.load(operated / "model.onnx")
    texts = [each.value for each in model.metadata_props if "threshold" in each.value]
    assert artifact["threshold"] == point["thresholds"][1]
    assert (artifact["classes"], artifact["sensitivity"]) == (["melanoma"], 0.8)
    assert any(repr(artifact["threshold"]) in text for text in texts)


def test_predict_decides_at_the_threshold(operated, point, tmp_path):
    draw = np.random.default_rng(1)
    for number in range(12):
        pixels = draw.integers(0, 20 * number + 30, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    for file in ("model.safetensors", "model.onnx"):
        shown = {
            kind: CliRunner()
            .invoke(app, ["predict", str(operated / file), str(tmp_path), "--format", kind, "--top", "9"])
            .stdout
            for kind in ("csv", "json", "table")
        }
        lines = [json.loads(line) for line in shown["json"].splitlines()]
        assert len(lines) == 12
        for line in lines:
            (score,) = [each["probability"] for each in line["classes"] if each["class"] == "melanoma"]
            assert line["score"] == pytest.approx(score, abs=1e-5)
            assert (
                line["positive"] == (line["score"] >= point["thresholds"][1])
                or abs(line["score"] - point["thresholds"][1]) < 1e-6
            )
        rows = list(csv.DictReader(io.StringIO(shown["csv"])))
        assert [row["positive"] for row in rows] == [str(line["positive"]).lower() for line in lines]
        assert [float(row["score"]) for row in rows] == pytest.approx([line["score"] for line in lines], abs=1e-5)
        for line, row in zip(lines, shown["table"].splitlines(), strict=True):
            answer, sign = ("positive", ">=") if line["positive"] else ("negative", "<")
            assert f"{answer} for melanoma (score {line['score']:.3f} {sign} threshold " in row


def test_predict_without_an_operating_point_decides_nothing(quickstart_runs, tmp_path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "black.png")
    file = str(quickstart_runs[0] / "model.safetensors")
    for kind in ("csv", "json", "table"):
        shown = CliRunner().invoke(app, ["predict", file, str(tmp_path), "--format", kind]).stdout
        assert "positive" not in shown
        assert "negative" not in shown


def test_unknown_classes_are_refused_together_before_anything_is_trained(tmp_path):
    import fairquant

    given = (
        "protect=[melanom]", "operating_point={classes: [wart], sensitivity: 0.9}",
        "accept={sensitivity: {classes: [nevus, naevus], loss_at_most: 0.05}}", "tracking.mlflow=null",
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        fairquant.run("quickstart", *given, demo=True, runs=tmp_path)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for start in (
        "accept.sensitivity.classes: the data have no class 'naevus'. Did you mean 'nevus'?",
        "protect: the data have no class 'melanom'. Did you mean 'melanoma'?", "operating_point.classes: the data have no class 'wart'.",
    ):  # fmt: skip
        assert start in text
    assert not [file for file in Path(tmp_path).rglob("*") if file.suffix in (".pt", ".safetensors")]
