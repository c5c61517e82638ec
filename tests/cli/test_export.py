"""fairquant export: calibration images, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.export.onnx import export_onnx
from fairquant.export.runtime import open_runtime

onnx = pytest.importorskip("onnx")


def test_a_folder_of_images_calibrates_and_what_does_not_decode_is_named(quickstart_runs, tmp_path):
    source, folder = str(quickstart_runs[0] / "model.safetensors"), tmp_path / "images"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no image")
    command = ["export", source, "--images", str(folder), "--out", str(tmp_path / "m.onnx")]
    assert "no image there that can be read" in str(CliRunner().invoke(app, command).exception)
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "broken.jpg: does not decode" in result.output
    assert "all: " in result.output  # no groups are known of these
    assert open_runtime(tmp_path / "m.onnx").metadata["activations"] == "int8"


def test_what_is_missing_is_named(quickstart_runs, tmp_path):
    with pytest.raises(UserError, match="int8 activations need calibration images"):
        export_onnx(quickstart_runs[0] / "model.safetensors", tmp_path / "m.onnx")
    for arguments, text in {
        (
            "export",
            str(quickstart_runs[0] / "model.safetensors"),
            "--format",
            "tflite",
        ): "--format tflite: must be one of onnx",
        ("export", str(tmp_path / "none.safetensors")): "cannot be read",
        (
            "export",
            str(quickstart_runs[0] / "model.safetensors"),
            "operating_point.sensitivity=.9",
        ): "'operating_point.sensitivity=.9': an export reads dataset.* and calibration.* only",
        ("audit", str(tmp_path / "none.bin")): "a .safetensors artifact or an exported .onnx file is wanted",
        (
            "bench",
            str(quickstart_runs[0] / "model.safetensors"),
            "--batches",
            "one",
        ): "--batches one: must be whole numbers",
    }.items():
        assert text in str(CliRunner().invoke(app, list(arguments)).exception)
