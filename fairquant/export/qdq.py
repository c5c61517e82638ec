"""Where QuantizeLinear and DequantizeLinear are placed in an ONNX graph: by ONNX Runtime's own tool, with our ranges."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairquant.errors import UserError
from fairquant.export.codes import GraphWeight
from fairquant.export.ranges import Calibration, Coverage, Method, Range, Ranges, find_ranges


def place_activations(
    plain: Path, weights: Mapping[str, GraphWeight], calibration: Calibration, method: Method, coverage: Coverage,
    learned: Mapping[str, Range],
) -> tuple[Any, Ranges]:  # fmt: skip
    """The graph with Q and DQ around its activations, and their ranges. learned: layer -> the range of its input that
    training learned, which replaces a calibrated one. (onnx has no types here.)"""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    graph = onnx.shape_inference.infer_shapes(onnx.load(plain))
    products = _products(graph)
    operations, options = sorted({*QDQRegistry, *QLinearOpsRegistry}), {}
    if products:
        # a transformer: attention and what lies between the layers stay in float, and the layers give float: Q and DQ
        # there cost more than int8 saves
        graph = onnx.shape_inference.infer_shapes(_with_bias(graph, weights))
        operations = ["Conv", "Gemm", "MatMul"]
        options = {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]}
    _separate_biases(graph)
    infinite, padded = _padded_with_infinity(graph)
    tensors = [name for name in _activations(graph, operations) if name not in infinite]
    ranges = find_ranges(_watched(graph, tensors), tensors, calibration, method, coverage)
    bounds = dict(ranges.bounds)
    for tensor, (low, high) in _learned_inputs(graph, weights, learned).items():
        bounds[tensor] = (low, high)
    tensor_data = {
        tensor: TensorData(lowest=np.float32(low), highest=np.float32(high)) for tensor, (low, high) in bounds.items()
    }
    tool = QDQQuantizer(
        graph, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, tensor_data), [],
        [*_kept(graph, weights), *_unaligned(graph, weights), *products, *padded], operations, options,
    )  # fmt: skip
    try:
        with _quiet():
            tool.quantize_model()
            tool.model.topological_sort()
    except Exception as error:
        raise UserError(
            "ONNX Runtime's tool cannot quantize the activations of this network "
            f"({type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}). Export it with --activations fp32"
        ) from error
    return tool.model.model, Ranges(bounds, ranges.clipped)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's tool prints and logs."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def _with_bias(graph: Any, weights: Mapping[str, GraphWeight]) -> Any:
    """A linear layer on tokens is written as MatMul and Add; as a Gemm between two Reshapes its bias is part of the
    integer kernel."""
    from onnx import helper, numpy_helper

    shapes = {each.name: each.type.tensor_type.shape.dim for each in (*graph.graph.value_info, *graph.graph.input)}
    initializers = {each.name: each for each in graph.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for product in [node for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in weights]:
        data, weight = product.input
        after = readers.get(product.output[0], [])
        inner = [dim.dim_value for dim in shapes.get(data, ())][1:]
        if len(after) != 1 or after[0].op_type != "Add" or len(inner) < 2 or not all(inner):
            continue
        bias = next((name for name in after[0].input if name in initializers), None)
        width = list(initializers[weight].dims)[1]
        if bias is None or list(initializers[bias].dims) != [width]:
            continue
        base, total = product.name or product.output[0], after[0].output[0]
        for name, shape in ((f"{base}_rows", [-1, inner[-1]]), (f"{base}_tokens", [-1, *inner[:-1], width])):
            graph.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        made = [
            helper.make_node("Reshape", [data, f"{base}_rows"], [f"{base}_flat"], name=f"{base}_flatten"),
            helper.make_node("Gemm", [f"{base}_flat", weight, bias], [f"{base}_linear"], name=f"{base}_gemm"),
            helper.make_node("Reshape", [f"{base}_linear", f"{base}_tokens"], [total], name=f"{base}_unflatten"),
        ]
        place = list(graph.graph.node).index(after[0])
        graph.graph.node.remove(after[0])
        for node in reversed(made):
            graph.graph.node.insert(place, node)
        graph.graph.node.remove(product)
    return graph


def _separate_biases(graph: Any) -> None:
    """Equal biases are one initializer. The tool copies it for each reader, under names that other tensors may have: copied here,
    under names of their own."""
    initializers = {each.name: each for each in graph.graph.initializer}
    seen: set[str] = set()
    for node in graph.graph.node:
        name = node.input[2] if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 else ""
        if name in initializers and name in seen:
            copy = graph.graph.initializer.add()
            copy.CopyFrom(initializers[name])
            copy.name = node.input[2] = f"{node.name or node.output[0]}_own_bias"
        seen.add(name)


def _activations(graph: Any, operations: list[str]) -> list[str]:
    """Float tensors that go into or out of the operations, in the graph's order."""
    import onnx

    known = {each.name: each for each in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)}
    weights = {each.name for each in graph.graph.initializer}
    names = dict.fromkeys(
        name
        for node in graph.graph.node
        if node.op_type in operations
        for name in (*node.input, *node.output)
        if name in known and name not in weights
    )
    return [name for name in names if known[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT]


def _watched(graph: Any, tensors: list[str]) -> Any:
    """images -> the values of the tensors."""
    import onnx
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(graph)
    out = {each.name for each in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in out)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(tensors, {"images": images})


def _learned_inputs(graph: Any, weights: Mapping[str, GraphWeight], learned: Mapping[str, Range]) -> dict[str, Range]:
    """Tensor -> the range that its readers learned; of several readers, one that holds them all."""
    ranges: dict[str, Range] = {}
    for node in graph.graph.node:
        for name in node.input[1:2]:
            if name in weights and weights[name].layer in learned:
                low, high = learned[weights[name].layer]
                before = ranges.get(node.input[0], (low, high))
                ranges[node.input[0]] = min(before[0], low), max(before[1], high)
    return ranges


def _kept(graph: Any, weights: Mapping[str, GraphWeight]) -> list[str]:
    """Nodes whose weight the recipe kept in full precision: they stay so."""
    initializers = {each.name for each in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and any(name in initializers and name not in weights for name in node.input[1:2])
    ]


def _unaligned(graph: Any, weights: Mapping[str, GraphWeight]) -> list[str]:
    """Nodes whose weight has a scale for each row where an integer kernel needs one for each output channel (or no integer kernel
    exists): the weight alone is dequantized for them, and for all that read it."""
    read = {name: [node for node in graph.graph.node if name in node.input] for name in weights}
    return sorted({
        node.name
        for name, nodes in read.items()
        if not all(_aligned(node, name, weights[name].transposed) for node in nodes)
        for node in nodes
    })  # fmt: skip


def _aligned(node: Any, name: str, transposed: bool) -> bool:
    """Whether the rows of a weight are the output channels of the node that reads it."""
    if list(node.input).index(name) != 1 or node.op_type not in ("Conv", "MatMul", "Gemm"):
        return False
    across = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return transposed != (node.op_type == "Conv" or across)


def _padded_with_infinity(graph: Any) -> tuple[set[str], list[str]]:
    """Tensors that are padded with infinity, as before a maximum, and the nodes that write and read them: no range holds infinity,
    and these nodes stay in float."""
    from onnx import numpy_helper

    constants = {each.name: each for each in graph.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    pads = [
        node
        for node in graph.graph.node
        if node.op_type == "Pad" and len(node.input) > 2 and node.input[2] in constants
        and not np.isfinite(numpy_helper.to_array(constants[node.input[2]])).all()
    ]  # fmt: skip
    infinite = {name for node in pads for name in node.output}
    readers = [node for node in graph.graph.node if infinite & set(node.input)]
    return infinite, [node.name for node in (*pads, *readers)]


def _products(graph: Any) -> list[str]:
    """Matrix products of which neither side is a weight."""
    weights = {each.name for each in graph.graph.initializer}
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
