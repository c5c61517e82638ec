"""The exported file: the same answers, any batch, any calibration, other programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import REPOSITORY
from helpers.artifacts import random_images
from PIL import Image
from typer.testing import CliRunner

import fairquant
from fairquant.artifact.load import read_artifact
from fairquant.cli import app
from fairquant.export.onnx import ExportOptions, export_onnx
from fairquant.export.ranges import Calibration
from fairquant.export.runtime import open_runtime

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("which", [0, 1], ids=["straight levels", "dead zones"])
def test_fp32_activations_give_the_models_logits_for_any_batch(quickstart_runs, which, tmp_path):
    source = quickstart_runs[which] / "model.safetensors"
    exported_file = export_onnx(source, tmp_path / "m.onnx", ExportOptions(activations="fp32"))
    assert bool(exported_file.rounded) == bool(which)
    model, runtime = fairquant.load(source), open_runtime(tmp_path / "m.onnx")
    for count in (1, 5):
        inputs = random_images(model.fairquant_metadata["preprocessing"]["image_size"], count)
        with torch.inference_mode():
            expected = model(torch.from_numpy(inputs)).numpy()
        np.testing.assert_allclose(runtime.logits(inputs), expected, rtol=1e-3, atol=5e-2 if which else 1e-4)


def test_int8_activations_agree_with_the_artifact(quickstart_runs, exported):
    runtime, model = open_runtime(exported[0]), open_runtime(quickstart_runs[0] / "model.safetensors")
    assert runtime.metadata["classes"] == model.metadata["classes"]
    assert runtime.metadata["preprocessing"] == model.metadata["preprocessing"]
    assert runtime.metadata["activations"] == "int8"
    inputs = random_images(runtime.metadata["preprocessing"]["image_size"], 64)
    one, two = runtime.logits(inputs), model.logits(inputs)
    assert (one.argmax(1) == two.argmax(1)).mean() > 0.9
    types = {each.op_type for each in onnx.load(exported[0]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= types
    full = sum(
        value.numel() * 4 for value in fairquant.load(quickstart_runs[0] / "model.safetensors").state_dict().values()
    )
    assert exported[0].stat().st_size < full / 4


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_other_calibrations(quickstart_runs, tmp_path, method):
    size = read_artifact(quickstart_runs[0] / "model.safetensors").metadata["preprocessing"]["image_size"]
    source = quickstart_runs[0] / "model.safetensors"
    export_onnx(source, tmp_path / "m.onnx", ExportOptions(method=method), Calibration([random_images(size, 16)]))
    assert open_runtime(tmp_path / "m.onnx").metadata["calibration"] == method


def test_a_vision_transformer_is_exported_with_its_attention_in_float(tmp_path):
    run = fairquant.run(
        "fitz_deit", "method=uniform-4-ptq", "dataset.images=60", "baseline.epochs=1", "tracking.mlflow=null",
        "calibration.images=16", "calibration.batch_size=8", demo=True, runs=tmp_path,
    )  # fmt: skip
    source = run.folder / "model.safetensors"
    size = read_artifact(source).metadata["preprocessing"]["image_size"]
    exported_file = export_onnx(
        source, tmp_path / "vit.onnx", ExportOptions(method="minmax"), Calibration([random_images(size, 4)])
    )
    assert len(exported_file.int4) + len(exported_file.int8) == 50
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "vit.onnx").graph.node)
    assert kinds["Gemm"] == 49  # each with its bias in the integer kernel
    assert kinds["MatMul"] == 24  # attention's products, in float
    inputs = random_images(size, 4)
    one, two = open_runtime(tmp_path / "vit.onnx").logits(inputs), open_runtime(source).logits(inputs)
    assert np.abs(one - two).max() < 0.2 * np.abs(two).max() + 0.1


def test_the_service_of_the_docs_needs_neither_fairquant_nor_torch_and_answers_the_same(exported, tmp_path):
    page = (REPOSITORY / "docs" / "deploy.md").read_text()
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if block.startswith("# service.py")
    )
    assert "fairquant" not in code.replace(
        "# service.py: class and probability of an image, without fairquant and without torch", ""
    )
    (tmp_path / "service.py").write_text(code)
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    command = [sys.executable, str(tmp_path / "service.py"), str(exported[0]), str(tmp_path / "a.png")]
    _, *name, fraction = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    table = CliRunner().invoke(app, ["predict", str(exported[0]), str(tmp_path / "a.png"), "--format", "json"]).output
    answer = json.loads(table)["classes"][0]
    assert answer["class"] == " ".join(name)
    assert answer["probability"] == pytest.approx(float(fraction), abs=2e-3)


def test_the_file_can_be_made_into_one_for_mobile_devices_and_answers_the_same(exported, tmp_path):
    """The command of docs/deploy.md."""
    import onnxruntime

    page = (REPOSITORY / "docs" / "deploy.md").read_text()
    module, name = re.search(r"`python -m (\S+) (\S+)`", page).groups()
    (tmp_path / name).write_bytes(exported[0].read_bytes())
    subprocess.run([sys.executable, "-m", module, name], cwd=tmp_path, check=True, capture_output=True)
    runtime = open_runtime(exported[0])
    inputs = random_images(runtime.metadata["preprocessing"]["image_size"])
    session = onnxruntime.InferenceSession(str(tmp_path / name).replace(".onnx", ".ort"))
    logits = session.run(None, {"images": inputs})[0]
    np.testing.assert_allclose(logits, runtime.logits(inputs), atol=0.05 * np.abs(logits).max())
