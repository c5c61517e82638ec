"""Where activations are quantized in the exported graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairquant.export.codes import GraphWeight
from fairquant.export.qdq import _kept, _learned_inputs, _padded_with_infinity, _products, _with_bias
from fairquant.roles import QuantizedWeight

onnx = pytest.importorskip("onnx")
make, array = onnx.helper.make_node, onnx.numpy_helper.from_array
WIDTH, TOKENS = 4, 3


def weight_of(layer: str) -> GraphWeight:
    stored = QuantizedWeight(
        codes=torch.zeros(WIDTH, WIDTH, dtype=torch.int8), bits=torch.zeros(WIDTH), scale=torch.ones(WIDTH), shape=(WIDTH, WIDTH)
    )  # fmt: skip
    return GraphWeight(layer, stored, True, np.ones(WIDTH), np.zeros(WIDTH))


def tokens_graph():
    """Two linear layers on tokens, each a MatMul with a bias added, and a product of two activations."""
    draw = np.random.default_rng(0)
    values = {name: draw.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("w1", "w2")}
    values |= {name: draw.normal(size=WIDTH).astype(np.float32) for name in ("b1", "b2")}
    nodes = [
        make("MatMul", ["x", "w1"], ["p1"], name="one"), make("Add", ["p1", "b1"], ["h1"], name="add1"),
        make("MatMul", ["x", "w2"], ["p2"], name="two"), make("Add", ["b2", "p2"], ["h2"], name="add2"),
        make("Transpose", ["h2"], ["t"], name="turn", perm=[0, 2, 1]), make("MatMul", ["h1", "t"], ["y"], name="attention"),
    ]  # fmt: skip
    shapes = {"x": ("batch", TOKENS, WIDTH), "y": ("batch", TOKENS, TOKENS)}
    inputs, outputs = ([onnx.helper.make_tensor_value_info(n, 1, shapes[n])] for n in ("x", "y"))
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [array(value, name) for name, value in values.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def answer(model, batch: int = 2) -> np.ndarray:
    import onnxruntime

    onnx.checker.check_model(model)
    images = np.random.default_rng(1).normal(size=(batch, TOKENS, WIDTH)).astype(np.float32)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": images}
    )[0]


def test_a_linear_layer_on_tokens_becomes_one_gemm_with_the_same_answer():
    expected = answer(tokens_graph())
    changed = _with_bias(tokens_graph(), {"w1": weight_of("one"), "w2": weight_of("two")})
    kinds = [node.op_type for node in changed.graph.node]
    assert (kinds.count("Gemm"), kinds.count("MatMul"), kinds.count("Add")) == (2, 1, 0)
    np.testing.assert_allclose(answer(changed), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_in_full_precision_stays_as_it_is():
    changed = _with_bias(tokens_graph(), {"w1": weight_of("one")})
    assert [node.op_type for node in changed.graph.node].count("Gemm") == 1
    assert _kept(tokens_graph(), {"w1": weight_of("one")}) == ["two"]


def test_only_products_of_two_activations_stay_in_float():
    assert _products(tokens_graph()) == ["attention"]


def test_a_tensor_that_two_layers_read_keeps_the_range_of_both():
    weights = {"w1": weight_of("one"), "w2": weight_of("two")}
    learned = {"one": (-1.0, 2.0), "two": (-3.0, 1.0)}
    assert _learned_inputs(tokens_graph(), weights, learned) == {"x": (-3.0, 2.0)}
    assert _learned_inputs(tokens_graph(), weights, {"two": (-3.0, 1.0)}) == {"x": (-3.0, 1.0)}


def test_every_layer_of_an_exported_convolutional_network_reads_quantized_values(untrained_export):
    graph = onnx.load(untrained_export).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) > 10
    assert all(makers[node.input[0]] == "DequantizeLinear" for node in layers)


@pytest.mark.parametrize("value", [-np.inf, 0.0])
def test_what_is_padded_with_infinity_and_its_readers_stay_in_float(value):
    nodes = [
        make("Constant", [], ["fill"], name="fill", value=array(np.float32(value), "value")),
        make("Pad", ["x", "ends", "fill"], ["wide"], name="pad"), make("MaxPool", ["wide"], ["y"], name="pool", kernel_shape=[2, 2]),
        make("Relu", ["y"], ["z"], name="after"),
    ]  # fmt: skip
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], [array(np.zeros(8, np.int64), "ends")]))
    expected = ({"wide"}, ["pad", "pool"]) if value else (set(), [])
    assert _padded_with_infinity(model) == expected
