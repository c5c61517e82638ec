"""fairquant predict: classes of images, from either file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.cli.predict import _Writer

onnx = pytest.importorskip("onnx")


def test_predict_reads_files_folders_and_lists_and_names_what_does_not_decode(exported, quickstart_runs, tmp_path):
    draw = np.random.default_rng(1)
    for number in range(5):
        Image.fromarray(draw.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    runner, answers = CliRunner(), {}
    for file in (exported[0], quickstart_runs[0] / "model.safetensors"):
        result = runner.invoke(
            app, ["predict", str(file), str(tmp_path), "--format", "json", "--top", "2", "--batch", "2"]
        )
        assert result.exit_code == 1  # one was named and skipped
        assert "broken.jpg: does not decode" in result.output
        lines = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
        assert [Path(line["image"]).name for line in lines] == [f"{n}.png" for n in range(5)]
        assert all(line["classes"][0]["probability"] >= line["classes"][1]["probability"] for line in lines)
        answers[file] = lines
    listed = "\n".join(str(tmp_path / f"{n}.png") for n in range(3))
    table = runner.invoke(app, ["predict", str(exported[0]), "-", "--format", "csv"], input=listed)
    assert table.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(table.output)))
    assert [row["class1"] for row in rows] == [line["classes"][0]["class"] for line in answers[exported[0]][:3]]
    assert "no images" in str(runner.invoke(app, ["predict", str(exported[0]), "-"], input="").exception)


def test_an_image_that_is_read_nearly_black_is_pointed_out_and_each_is_answered(exported, tmp_path):
    values = np.random.default_rng(1).integers(0, 4096, (40, 50)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "dark.png")
    Image.fromarray(values * 16).save(tmp_path / "light.png")
    names = [str(tmp_path / name) for name in ("dark.png", "light.png", "light.png")]
    result = CliRunner().invoke(app, ["predict", str(exported[0]), *names, "--format", "csv"])
    assert result.exit_code == 0
    assert f"dark.png: its largest value is {values.max()} of 65535" in result.output
    assert "light.png: its" not in result.output
    assert result.output.count("light.png,") == 2


def test_the_decision_stands_before_the_most_probable_class_and_names_its_classes(capsys):
    writer = _Writer("table", 1, 0.25, "melanoma or carcinoma")
    writer.write("a.png", [("nevus", 0.6)], (0.4, True))
    writer.write("b.png", [("nevus", 0.9)], (0.1, False))
    assert capsys.readouterr().out.splitlines() == [
        "a.png  positive for melanoma or carcinoma (score 0.400 >= threshold 0.250)  most probable: nevus 0.600",
        "b.png  negative for melanoma or carcinoma (score 0.100 < threshold 0.250)  most probable: nevus 0.900",
    ]
