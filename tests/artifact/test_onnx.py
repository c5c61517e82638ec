"""The exported file: the artifact's own codes, small, checked, audited as shipped; predict and bench; what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image
from typer.testing import CliRunner

import fairquant
from fairquant.export.codes import LUT4, INT8, GraphWeight, _kinds, _Layout, codes_of, find_weights
from fairquant.artifact.load import read_artifact
from fairquant.export.onnx import export_onnx
from fairquant.export.ranges import Calibration
from fairquant.export.runtime import open_runtime
from fairquant.cli import app
from fairquant.errors import UserError
from fairquant.roles import Predictions, QuantizedWeight

onnx = pytest.importorskip("onnx")
SMALL = ("baseline.epochs=2", "train.epochs=1", "dataset.images=200", "tracking.mlflow=null", "calibration.images=48")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run with at most 4 bits, and one with dead zones."""
    place = tmp_path_factory.mktemp("runs")
    plain = fairquant.run(
        "quickstart", "method=fq-qat", "quantize.choices=[0, 1, 2, 3, 4]", *SMALL, demo=True, runs=place
    )
    dead = fairquant.run("quickstart", "method=fq-baq", *SMALL, demo=True, runs=place)
    return plain.folder, dead.folder


@pytest.fixture(scope="module")
def exported(runs):
    result = CliRunner().invoke(app, ["export", str(runs[0] / "model.safetensors")])
    assert result.exit_code == 0, result.output
    return runs[0] / "model.onnx", result.output


def images(size: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32)


def test_the_codes_in_the_file_are_the_artifacts(runs, exported):
    from onnx import numpy_helper

    path, output = exported
    assert "layers in int4, 0 in int8" in output
    graph = onnx.load(path)
    artifact = read_artifact(runs[0] / "model.safetensors")
    tensors = {each.name: each for each in graph.graph.initializer}
    found = 0
    for layer, weight in artifact.weights.items():
        name = next((n for n in tensors if n.startswith(f"{layer}.weight") and n.endswith("_int4")), None)
        if name is None:
            continue
        found += 1
        assert tensors[name].data_type == onnx.TensorProto.INT4
        codes = numpy_helper.to_array(tensors[name]).astype(np.int8).reshape(weight.codes.shape)
        assert np.array_equal(np.abs(codes), np.abs(weight.codes.numpy()))  # a folded batch norm may turn a row's sign
    assert found >= len(artifact.weights) - 1
    assert not [each for each in graph.graph.node if each.op_type == "BatchNormalization"]


def test_codes_times_scales_are_the_weights_with_batch_norm_folded(runs):
    network = fairquant.load(runs[0] / "model.safetensors")
    artifact = read_artifact(runs[0] / "model.safetensors")
    import tempfile

    from fairquant.export.onnx import trace

    with tempfile.TemporaryDirectory() as folder:
        trace(network, artifact, Path(folder) / "plain.onnx")
        graph = onnx.load(Path(folder) / "plain.onnx")
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.graph.initializer}
    placed = find_weights(graph, artifact, network)
    assert {each.layer for each in placed.values()} == set(artifact.weights)
    for name, each in placed.items():
        codes, scale, exact = codes_of(each)
        assert exact
        mine = values[name].T if each.transposed else values[name]
        np.testing.assert_allclose(codes * scale[:, None], mine.reshape(len(mine), -1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shift", [None, torch.zeros(3)], ids=["straight levels", "dead zones"])
def test_a_pruned_row_has_a_scale_in_which_its_bias_can_be_counted(shift):
    codes, bits = torch.tensor([[1, -1], [0, 0], [1, 0]], dtype=torch.int8), torch.tensor([2, 0, 2])
    stored = QuantizedWeight(codes=codes, bits=bits, scale=torch.tensor([0.5, 1e-12, 0.25]), shape=(3, 2), shift=shift)
    _, scale, _ = codes_of(GraphWeight("head", stored, False, np.ones(3)))
    assert scale.min() > 1e-4


@pytest.mark.parametrize("which", [0, 1], ids=["straight levels", "dead zones"])
def test_fp32_activations_give_the_models_logits_for_any_batch(runs, which, tmp_path):
    source = runs[which] / "model.safetensors"
    found = export_onnx(source, tmp_path / "m.onnx", activations="fp32")
    assert bool(found.rounded) == bool(which)
    model, runtime = fairquant.load(source), open_runtime(tmp_path / "m.onnx")
    for count in (1, 5):
        given = images(model.fairquant_metadata["preprocessing"]["image_size"], count)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(given)).numpy()
        np.testing.assert_allclose(runtime.logits(given), wanted, rtol=1e-3, atol=5e-2 if which else 1e-4)


def test_int8_activations_agree_with_the_artifact(runs, exported):
    runtime, model = open_runtime(exported[0]), open_runtime(runs[0] / "model.safetensors")
    assert runtime.metadata["classes"] == model.metadata["classes"]
    assert runtime.metadata["preprocessing"] == model.metadata["preprocessing"]
    assert runtime.metadata["activations"] == "int8"
    given = images(runtime.metadata["preprocessing"]["image_size"], 64)
    one, two = runtime.logits(given), model.logits(given)
    assert (one.argmax(1) == two.argmax(1)).mean() > 0.9
    types = {each.op_type for each in onnx.load(exported[0]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= types
    full = sum(value.numel() * 4 for value in fairquant.load(runs[0] / "model.safetensors").state_dict().values())
    assert exported[0].stat().st_size < full / 4


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_take_4_or_8_bits_as_their_levels_need_and_come_back_as_they_were(transposed):
    import onnxruntime

    draw = np.random.default_rng(5)
    straight = draw.integers(-7, 8, (3, 60))
    narrow = draw.choice([-100, -90, 0, 33, 127], (2, 60))  # few levels, no straight line
    wide = draw.integers(-127, 128, (2, 60))
    rows = np.concatenate([wide[:1], straight, narrow, wide[1:]]).astype(np.int8)
    shape = (7, 60) if transposed else (7, 15, 2, 2)
    for codes, kinds in (
        (rows, [INT8, 0, 0, 0, LUT4, LUT4, INT8]),
        (narrow.astype(np.int8)[[0, 1, 0, 1, 0, 1, 0]], [LUT4] * 7),
    ):
        assert list(_kinds(codes)) == kinds
        out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT8, shape[::-1] if transposed else shape)
        reader = onnx.helper.make_node("Identity", ["w"], ["out"])
        graph = onnx.helper.make_model(
            onnx.helper.make_graph([reader], "g", [], [out]),
            opset_imports=[onnx.helper.make_opsetid("", 21)],
            ir_version=10,
        )
        weight = QuantizedWeight(codes=torch.from_numpy(codes), bits=torch.full((7,), 8), scale=torch.ones(7), shape=shape)
        small = _Layout(graph, "w").store(codes, GraphWeight("layer", weight, transposed, np.ones(7)))
        assert small == (INT8 not in kinds)
        onnx.checker.check_model(graph, full_check=True)
        found = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {})[0]
        wanted = codes.reshape(shape)
        assert np.array_equal(found, wanted.T if transposed else wanted)
        bytes_of = sum(len(each.raw_data) for each in graph.graph.initializer)
        assert bytes_of < codes.size


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_other_calibrations(runs, tmp_path, method):
    size = read_artifact(runs[0] / "model.safetensors").metadata["preprocessing"]["image_size"]
    export_onnx(
        runs[0] / "model.safetensors", tmp_path / "m.onnx", calibration=Calibration([images(size, 16)]), method=method
    )
    assert open_runtime(tmp_path / "m.onnx").metadata["calibration"] == method


def test_a_vision_transformer_is_exported_with_its_attention_in_float(tmp_path):
    run = fairquant.run(
        "fitz_deit", "method=uniform-4-ptq", "dataset.images=60", "baseline.epochs=1", "tracking.mlflow=null",
        "calibration.images=16", "calibration.batch_size=8", demo=True, runs=tmp_path,
    )  # fmt: skip
    source = run.folder / "model.safetensors"
    size = read_artifact(source).metadata["preprocessing"]["image_size"]
    found = export_onnx(source, tmp_path / "vit.onnx", calibration=Calibration([images(size, 4)]), method="minmax")
    assert len(found.int4) + len(found.int8) == 50
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "vit.onnx").graph.node)
    assert kinds["Gemm"] == 49  # each with its bias in the integer kernel
    assert kinds["MatMul"] == 24  # attention's products, in float
    given = images(size, 4)
    one, two = open_runtime(tmp_path / "vit.onnx").logits(given), open_runtime(source).logits(given)
    assert np.abs(one - two).max() < 0.2 * np.abs(two).max() + 0.1


def test_audit_shows_three_columns_and_strict_ends_with_3_where_a_group_loses(runs, exported, tmp_path, monkeypatch):
    path, _ = exported
    out = tmp_path / "audit.json"
    result = CliRunner().invoke(app, ["audit", str(path), "--strict", "--out", str(out)])
    assert result.exit_code in (0, 3), result.output
    for text in ("full precision", "trained artifact", "model.onnx in ONNX Runtime", "against trained artifact:"):
        assert text in result.output
    columns = json.loads(out.read_text())["columns"]
    report = json.loads((runs[0] / "report.json").read_text())
    assert columns["trained artifact"]["accuracy"]["value"] == report["metrics"]["accuracy"]["value"]
    same = CliRunner().invoke(app, ["audit", str(runs[0] / "model.safetensors")])
    assert same.exit_code == 0
    assert f"{report['metrics']['accuracy']['value']:.3f}" in same.output
    from fairquant.artifact import deploy

    def always_wrong(runtime, split, splits, preprocessing, advance):
        logits = np.eye(len(splits.class_names), dtype=np.float32)[(split.labels + 1) % len(splits.class_names)]
        return Predictions(logits=logits, labels=split.labels, groups=split.groups, group_names=splits.group_names, class_names=splits.class_names, ids=split.ids)

    monkeypatch.setattr(deploy, "predictions_of", always_wrong)
    loose, bad = (CliRunner().invoke(app, ["audit", str(path), *options]) for options in ([], ["--strict"]))
    assert (loose.exit_code, bad.exit_code) == (0, 3), bad.output
    assert "the export costs accuracy beyond chance: " in bad.output


def test_other_data_are_audited_by_name_or_recipe_with_the_artifact_asked_anew(runs, exported, tmp_path):
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
        ("--dataset", "isic"): "no dataset is called 'isic'. Did you mean 'isic2019'?",
        ("--dataset", str(tmp_path / "none.yaml")): "none.yaml: cannot be read",
        ("--all",): "--all: only with --dataset",
    }.items():
        assert text in str(CliRunner().invoke(app, ["audit", str(exported[0]), *arguments]).exception)


def test_labels_of_other_data_are_numbered_as_the_files_classes_are():
    from fairquant.export.audit import audit_splits
    from fairquant.roles import Split, Splits
    from fairquant.roles.dataset import ArrayImages

    def split(labels, *ids):
        rows = np.arange(len(labels))
        array = np.zeros((len(labels), 4, 4, 3), np.uint8) + np.array(labels, np.uint8)[:, None, None, None]
        return Split(ArrayImages(array, rows), np.array(labels), np.zeros(len(labels), np.int64), ids)

    splits = Splits(train=split([0], "a"), validation=split([1, 0], "b", "c"), test=split([1], "d"), class_names=("mole", "wart"), group_names=("all",), attributes=("x",), fingerprint="")
    found = audit_splits(splits, ["wart", "burn", "mole"], True, Path("m.onnx")).test
    assert found.ids == ("a", "b", "c", "d")
    assert found.labels.tolist() == [2, 0, 2, 0]
    assert [int(found.images[row].max()) for row in range(4)] == [0, 1, 0, 1]
    assert audit_splits(splits, ["mole", "wart"], False, Path("m.onnx")).test.ids == ("d",)
    with pytest.raises(UserError, match="it knows no class 'wart' of these data. Its classes: mole, burn"):
        audit_splits(splits, ["mole", "burn"], False, Path("m.onnx"))


def test_predict_reads_files_folders_and_lists_and_names_what_does_not_decode(exported, runs, tmp_path):
    draw = np.random.default_rng(1)
    for number in range(5):
        Image.fromarray(draw.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    runner, answers = CliRunner(), {}
    for file in (exported[0], runs[0] / "model.safetensors"):
        found = runner.invoke(
            app, ["predict", str(file), str(tmp_path), "--format", "json", "--top", "2", "--batch", "2"]
        )
        assert found.exit_code == 1  # one was named and skipped
        assert "broken.jpg: does not decode" in found.output
        lines = [json.loads(line) for line in found.output.splitlines() if line.startswith("{")]
        assert [Path(line["image"]).name for line in lines] == [f"{n}.png" for n in range(5)]
        assert all(line["classes"][0]["probability"] >= line["classes"][1]["probability"] for line in lines)
        answers[file] = lines
    listed = "\n".join(str(tmp_path / f"{n}.png") for n in range(3))
    table = runner.invoke(app, ["predict", str(exported[0]), "-", "--format", "csv"], input=listed)
    assert table.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(table.output)))
    assert [row["class1"] for row in rows] == [line["classes"][0]["class"] for line in answers[exported[0]][:3]]
    assert "no images" in str(runner.invoke(app, ["predict", str(exported[0]), "-"], input="").exception)


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


def test_bench_measures_all_side_by_side(exported, runs):
    found = CliRunner().invoke(
        app, ["bench", str(runs[0] / "model.safetensors"), str(exported[0]), "--seconds", "0.3", "--batches", "1,4"]
    )
    assert found.exit_code == 0, found.output
    for text in (
        "model.safetensors (PyTorch)",
        "model.onnx (ONNX Runtime)",
        "full precision (PyTorch fp32)",
        "full precision (ONNX Runtime fp32)",
        "speed-up",
    ):
        assert text in found.output, found.output
    memory = [float(line.split()[-2]) for line in found.output.splitlines() if line.endswith("x")]
    assert len(memory) == 4
    assert min(memory) > 1  # megabytes, each in a process of its own: none hides behind one before it


def test_the_file_can_be_made_into_one_for_mobile_devices_and_answers_the_same(exported, tmp_path):
    """The command of docs/deploy.md."""
    import onnxruntime

    page = (REPOSITORY / "docs" / "deploy.md").read_text()
    module, name = re.search(r"`python -m (\S+) (\S+)`", page).groups()
    (tmp_path / name).write_bytes(exported[0].read_bytes())
    subprocess.run([sys.executable, "-m", module, name], cwd=tmp_path, check=True, capture_output=True)
    runtime = open_runtime(exported[0])
    given = images(runtime.metadata["preprocessing"]["image_size"])
    session = onnxruntime.InferenceSession(str(tmp_path / name).replace(".onnx", ".ort"))
    found = session.run(None, {"images": given})[0]
    np.testing.assert_allclose(found, runtime.logits(given), atol=0.05 * np.abs(found).max())


def test_a_folder_of_images_calibrates_and_what_does_not_decode_is_named(runs, tmp_path):
    source, folder = str(runs[0] / "model.safetensors"), tmp_path / "images"
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


def test_what_is_missing_is_said(runs, tmp_path):
    with pytest.raises(UserError, match="int8 activations need calibration images"):
        export_onnx(runs[0] / "model.safetensors", tmp_path / "m.onnx")
    for arguments, text in {
        ("export", str(runs[0] / "model.safetensors"), "--format", "tflite"): "--format tflite: must be one of onnx",
        ("export", str(tmp_path / "none.safetensors")): "cannot be read",
        ("audit", str(tmp_path / "none.bin")): "a .safetensors artifact or an exported .onnx file is wanted",
        ("bench", str(runs[0] / "model.safetensors"), "--batches", "one"): "--batches one: must be whole numbers",
    }.items():
        assert text in str(CliRunner().invoke(app, list(arguments)).exception)


def test_a_card_goes_with_every_artifact(runs):
    card = (runs[0] / "README.md").read_text()
    for text in (
        "library_name: fairquant",
        "## Intended use",
        "## Audit on test images",
        "## What compression changed, for whom",
        "DEMO",
    ):
        assert text in card
    import yaml

    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-classification"
