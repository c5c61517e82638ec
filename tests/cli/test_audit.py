"""fairquant audit: three columns, other data, --strict."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import fairquant.export.audit
import fairquant.registry
from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.roles import Predictions

onnx = pytest.importorskip("onnx")


def test_audit_shows_three_columns_and_strict_ends_with_3_where_a_group_loses(
    quickstart_runs, exported, tmp_path, monkeypatch
):
    path, _ = exported
    out = tmp_path / "audit.json"
    result = CliRunner().invoke(app, ["audit", str(path), "--strict", "--out", str(out)])
    answer = json.loads(out.read_text())["accept"]["answer"]
    assert result.exit_code == {"PASS": 0, "FAIL": 3, "CANNOT TELL": 4}[answer], result.output
    assert result.stdout.startswith(f"{answer}: ")
    for text in ("full precision", "trained artifact", "model.onnx in ONNX Runtime", "against trained artifact:"):
        assert text in result.output
    columns = json.loads(out.read_text())["columns"]
    report = json.loads((quickstart_runs[0] / "report.json").read_text())
    assert columns["trained artifact"]["accuracy"]["value"] == report["metrics"]["accuracy"]["value"]
    same = CliRunner().invoke(app, ["audit", str(quickstart_runs[0] / "model.safetensors")])
    assert same.exit_code == 0
    assert f"{report['metrics']['accuracy']['value']:.3f}" in same.output

    def always_wrong(runtime, splits, preprocessing, advance):
        split = splits.test
        logits = np.eye(len(splits.class_names), dtype=np.float32)[(split.labels + 1) % len(splits.class_names)]
        return Predictions(
            logits=logits,
            labels=split.labels,
            groups=split.groups,
            group_names=splits.group_names,
            class_names=splits.class_names,
            ids=split.ids,
        )

    monkeypatch.setattr(fairquant.export.audit, "predictions_of", always_wrong)
    loose, bad = (CliRunner().invoke(app, ["audit", str(path), *options]) for options in ([], ["--strict"]))
    assert (loose.exit_code, bad.exit_code) == (0, 3), bad.output
    assert "the export reduces accuracy beyond chance: " in bad.output


def test_other_data_are_audited_by_name_or_recipe_and_the_artifact_predicts_again(quickstart_runs, exported, tmp_path):
    out, section = tmp_path / "audit.json", tmp_path / "elsewhere.yaml"
    named = ["audit", str(exported[0]), "--dataset", "synthetic-lesions", "dataset.images=90", "seed=5", "--all"]
    result = CliRunner().invoke(app, [*named, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "full precision" not in result.output  # it saw none of these images
    columns = json.loads(out.read_text())["columns"]
    assert list(columns) == ["trained artifact", "model.onnx in ONNX Runtime"]
    section.write_text("dataset: {name: synthetic-lesions, images: 90}\nmethod: fp32\n")
    again = CliRunner().invoke(app, ["audit", str(exported[0]), "--dataset", str(section), "seed=5", "--all"])
    assert again.output[again.output.index("accuracy") :] == result.output[result.output.index("accuracy") :]
    for arguments, text in {
        ("--dataset", "isic201"): "no dataset is called 'isic201'. Did you mean 'isic2019'?",
        ("--dataset", str(tmp_path / "none.yaml")): "none.yaml: cannot be read",
        ("--all",): "--all: only with --dataset",
    }.items():
        assert text in str(CliRunner().invoke(app, ["audit", str(exported[0]), *arguments]).exception)


def test_an_audit_says_who_lost_what_whatever_the_limits(quickstart_runs, monkeypatch):
    def blind(runtime, splits, preprocessing, advance):
        """A model that answers the first class to everything."""
        logits = np.zeros((len(splits.test), len(splits.class_names)), np.float32)
        logits[:, 0] = 9
        split = splits.test
        return Predictions(
            logits=logits, labels=split.labels, groups=split.groups, group_names=splits.group_names,
            class_names=splits.class_names, ids=split.ids,
        )  # fmt: skip

    def perfect(path, own, splits, preprocessing, bar):
        return {"full precision": replace(own, logits=9 * np.eye(len(own.class_names), dtype=np.float32)[own.labels])}

    monkeypatch.setattr("fairquant.export.audit.predictions_of", blind)
    monkeypatch.setattr("fairquant.export.audit.reference_predictions", perfect)
    file = str(quickstart_runs[0] / "model.safetensors")
    limits = "accept={sensitivity: null, accuracy: null, file: {at_most: 99MB}}"
    result = CliRunner().invoke(app, ["audit", file, limits, "--strict"])
    assert result.exit_code == 0
    assert "PASS: the one limit is kept. None of them is about patients." in result.stdout
    assert "The limits do not cover everything that was lost beyond chance" in result.stdout
    assert "Of 100 patients with" in result.stdout


def test_a_file_alone_is_judged_by_what_can_be_judged(quickstart_runs, tmp_path):
    file = tmp_path / "alone.safetensors"
    shutil.copy(quickstart_runs[0] / "model.safetensors", file)
    result = CliRunner().invoke(app, ["audit", str(file), "accept.file.at_most=1kB", "--strict"])
    assert result.exit_code == 3
    assert result.stdout.startswith("FAIL: the file has")
    assert "no full-precision model beside the file" in result.stdout


def test_what_an_audit_cannot_change_or_finish_is_no_traceback(quickstart_runs, monkeypatch):
    file = str(quickstart_runs[0] / "model.safetensors")
    refused = CliRunner().invoke(app, ["audit", file, "operating_point={classes: [nevus], sensitivity: 0.9}"])
    assert "the threshold was chosen on validation and is in the file" in str(refused.exception)
    plugins = fairquant.registry.discover()
    plugins.registry.add("metric", "raises", "helpers.metrics:Raises", "a stranger's", "stranger")
    monkeypatch.setattr("fairquant.registry.discover", lambda: plugins)
    failed = CliRunner().invoke(app, ["audit", file, "accept={raises: {loss_at_most: 0.05}}"])
    assert isinstance(failed.exception, UserError)
    assert "metric 'raises' of stranger" in str(failed.exception)
    assert "of a stranger" in str(failed.exception)


@pytest.fixture
def deep(tmp_path):
    """A run on dark 16-bit images, read by percentile, of two classes that differ in a square; the file of its dataset section
    without the intensity."""
    rows = ["file,label,sex"]
    draw = np.random.default_rng(0)
    for number in range(60):
        values = draw.integers(0, 900, (32, 32))
        values[8:20, 8:20] += 1500 * (number % 2)
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('plain', 'square')[number % 2]},{'mf'[number // 2 % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    section = {
        "name": "image-table",
        "table": str(tmp_path / "t.csv"),
        "image": "file",
        "label": "label",
        "attributes": ["sex"],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"dataset": section}))
    content = {
        "dataset": {**section, "intensity": "percentile"}, "model": {"name": "test_resnet", "image_size": 32},
        "baseline": {"epochs": 0}, "train": {"post_training": True}, "calibration": {"images": 8}, "method": "uniform-8",
        "tracking": {"mlflow": None},
    }  # fmt: skip
    (tmp_path / "deep.yaml").write_text(yaml.safe_dump(content))
    return fairquant.run(tmp_path / "deep.yaml").folder / "model.safetensors", tmp_path / "data.yaml"


def test_other_data_are_read_as_the_files_own_or_not_at_all(deep):
    path, data = deep
    plain = CliRunner().invoke(app, ["audit", str(path)])
    same = CliRunner().invoke(app, ["audit", str(path), "--dataset", str(data)])
    assert (plain.exit_code, same.exit_code) == (0, 0), same.output
    assert "full precision" in same.output  # the very images of the run
    table = lambda output: output[output.index("full precision") :]
    assert table(plain.output) == table(same.output)
    other = CliRunner().invoke(app, ["audit", str(path), "--dataset", str(data), "dataset.intensity=full"])
    assert isinstance(other.exception, UserError)
    assert "its images are read with intensity percentile, these data with full" in str(other.exception)
    compared = CliRunner().invoke(app, ["diff", str(path), str(path), "--dataset", str(data), "dataset.intensity=full"])
    assert "its images are read with intensity percentile" in str(compared.exception)
