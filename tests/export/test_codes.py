"""The artifact's own codes in the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fairquant
from fairquant.artifact.load import read_artifact
from fairquant.export.codes import INT8, LUT4, GraphWeight, _kinds, _Layout, codes_of, find_weights
from fairquant.roles import QuantizedWeight

onnx = pytest.importorskip("onnx")


def test_the_codes_in_the_file_are_the_artifacts(quickstart_runs, exported):
    from onnx import numpy_helper

    path, output = exported
    assert "layers in int4, 0 in int8" in output
    graph = onnx.load(path)
    artifact = read_artifact(quickstart_runs[0] / "model.safetensors")
    tensors = {each.name: each for each in graph.graph.initializer}
    compared = 0
    for layer, weight in artifact.weights.items():
        name = next((n for n in tensors if n.startswith(f"{layer}.weight") and n.endswith("_int4")), None)
        if name is None:
            continue
        compared += 1
        assert tensors[name].data_type == onnx.TensorProto.INT4
        codes = numpy_helper.to_array(tensors[name]).astype(np.int8).reshape(weight.codes.shape)
        assert np.array_equal(np.abs(codes), np.abs(weight.codes.numpy()))  # a folded batch norm may turn a row's sign
    assert compared >= len(artifact.weights) - 1
    assert not [each for each in graph.graph.node if each.op_type == "BatchNormalization"]


def test_codes_times_scales_are_the_weights_with_batch_norm_folded(quickstart_runs):
    network = fairquant.load(quickstart_runs[0] / "model.safetensors")
    artifact = read_artifact(quickstart_runs[0] / "model.safetensors")
    import tempfile

    from fairquant.export.onnx import trace

    with tempfile.TemporaryDirectory() as folder:
        trace(network, artifact, Path(folder) / "plain.onnx")
        graph = onnx.load(Path(folder) / "plain.onnx")
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.graph.initializer}
    weights, in_float = find_weights(graph, artifact)
    assert not in_float
    assert {each.layer for each in weights.values()} == set(artifact.weights)
    for name, each in weights.items():
        codes, scale, exact = codes_of(each)
        assert exact
        mine = values[name].T if each.transposed else values[name]
        np.testing.assert_allclose(codes * scale[:, None], mine.reshape(len(mine), -1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shift", [None, torch.zeros(3)], ids=["straight levels", "dead zones"])
def test_a_pruned_row_has_a_scale_in_which_its_bias_can_be_counted(shift):
    codes, bits = torch.tensor([[1, -1], [0, 0], [1, 0]], dtype=torch.int8), torch.tensor([2, 0, 2])
    stored = QuantizedWeight(codes=codes, bits=bits, scale=torch.tensor([0.5, 1e-12, 0.25]), shape=(3, 2), shift=shift)
    _, scale, _ = codes_of(GraphWeight("head", stored, False, np.ones(3), np.zeros(3)))
    assert scale.min() > 1e-4


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
        weight = QuantizedWeight(
            codes=torch.from_numpy(codes), bits=torch.full((7,), 8), scale=torch.ones(7), shape=shape
        )
        small = _Layout(graph, "w").store(codes, GraphWeight("layer", weight, transposed, np.ones(7), np.zeros(7)))
        assert small == (INT8 not in kinds)
        onnx.checker.check_model(graph, full_check=True)
        restored = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {})[0]
        expected = codes.reshape(shape)
        assert np.array_equal(restored, expected.T if transposed else expected)
        bytes_of = sum(len(each.raw_data) for each in graph.graph.initializer)
        assert bytes_of < codes.size
