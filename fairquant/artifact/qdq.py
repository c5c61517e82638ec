"""Where Q and DQ stand in the graph, and the artifact's codes in place of the weights.

ONNX Runtime's own tool places QuantizeLinear and DequantizeLinear; the weights that it made up are replaced by the
artifact's codes, so that what was trained is what runs. A row of at most 16 levels is stored in 4 bits a weight, any other
in 8; Cast, GatherElements, Concat and Gather lay them out as the int8 that the kernels take, once, when the session starts.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fairquant.artifact.load import Artifact
from fairquant.artifact.ranges import Calibration, Coverage, Method, Range, Ranges, find_ranges
from fairquant.errors import UserError
from fairquant.roles import QuantizedWeight

Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Placed:
    """A layer's weight as it stands in the graph: the initializer's name, whether it lies transposed, and the factor of
    each row that a folded batch norm left in it."""

    layer: str
    stored: QuantizedWeight
    transposed: bool
    factor: NDArray[np.float64]


def find_weights(graph: Any, artifact: Artifact, network: nn.Module) -> dict[str, Placed]:
    """Initializer name -> the artifact's weight in it, found by value: names do not survive every exporter."""
    from onnx import numpy_helper

    decoded = {layer: weight.decode().double().numpy() for layer, weight in artifact.weights.items()}
    found: dict[str, Placed] = {}
    missing = set(decoded)
    for initializer in graph.graph.initializer:
        if len(initializer.dims) < 2:
            continue
        values = numpy_helper.to_array(initializer).astype(np.float64)
        for layer, weight in decoded.items():
            for transposed in (False, True) if weight.ndim == 2 else (False,):
                mine = values.T if transposed else values
                if mine.shape != weight.shape:
                    continue
                rows, own = mine.reshape(len(mine), -1), weight.reshape(len(weight), -1)
                energy = (own**2).sum(1)
                factor = np.where(energy > 0, (rows * own).sum(1) / np.maximum(energy, 1e-300), 1.0)
                if np.allclose(rows, own * factor[:, None], rtol=1e-4, atol=1e-6 * max(abs(rows).max(), 1e-30)):
                    missing.discard(layer)  # layers of the same weights, such as pruned ones, may share an initializer
                    found.setdefault(initializer.name, Placed(layer, artifact.weights[layer], transposed, factor))
    if missing:
        raise UserError(f"the exporter changed the weights of {', '.join(sorted(missing))} beyond recognition")
    return found


def place_activations(
    plain: Path, weights: Mapping[str, Placed], calibration: Calibration, method: Method, coverage: Coverage,
    learnt: Mapping[str, Range],
) -> tuple[Any, Ranges]:  # fmt: skip
    """The graph with Q and DQ around its activations, and their ranges. learnt: layer -> the range of its input that
    training found, which stands in place of a calibrated one."""
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
    tensors = _activations(graph, operations)
    ranges = find_ranges(_watched(graph, tensors), tensors, calibration, method, coverage)
    bounds = dict(ranges.bounds)
    for tensor, (low, high) in _learnt_inputs(graph, weights, learnt).items():
        bounds[tensor] = (low, high)
    found = {
        tensor: TensorData(lowest=np.float32(low), highest=np.float32(high)) for tensor, (low, high) in bounds.items()
    }
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it talks
            tool = QDQQuantizer(
                graph, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, found), [],
                [*_kept(graph, weights), *products], operations, options,
            )  # fmt: skip
            tool.quantize_model()
            tool.model.topological_sort()
    finally:
        root.setLevel(level)
    return tool.model.model, Ranges(bounds, ranges.clipped)


def _with_bias(graph: Any, weights: Mapping[str, Placed]) -> Any:
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


def _learnt_inputs(graph: Any, weights: Mapping[str, Placed], learnt: Mapping[str, Range]) -> dict[str, Range]:
    """Tensor -> the range that its readers learnt; of several readers, one that holds them all."""
    found: dict[str, Range] = {}
    for node in graph.graph.node:
        for name in node.input[1:2]:
            if name in weights and weights[name].layer in learnt:
                low, high = learnt[weights[name].layer]
                before = found.get(node.input[0], (low, high))
                found[node.input[0]] = min(before[0], low), max(before[1], high)
    return found


def _kept(graph: Any, weights: Mapping[str, Placed]) -> list[str]:
    """Nodes whose weight the recipe kept in full precision: they stay so."""
    initializers = {each.name for each in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and any(name in initializers and name not in weights for name in node.input[1:2])
    ]


def _products(graph: Any) -> list[str]:
    """Matrix products of which neither side is a weight."""
    weights = {each.name for each in graph.graph.initializer}
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and not weights & set(node.input)]


def codes_of(placed: Placed) -> tuple[NDArray[np.int8], NDArray[np.float32], bool]:
    """Codes [R, n] and scales [R] with value = code * scale, batch norm's factor in the scale; whether they are exact."""
    stored = placed.stored
    sign = np.where(placed.factor < 0, -1, 1)
    if stored.shift is None and stored.codebook is None:
        codes = stored.codes.numpy().astype(np.int16) * sign[:, None]
        scale = stored.scale.double().numpy() * np.abs(placed.factor)
        return codes.astype(np.int8), _usable(scale, codes), True
    values = stored.decode().double().numpy().reshape(len(sign), -1) * placed.factor[:, None]
    scale = np.abs(values).max(1) / 127
    codes = np.rint(values / np.maximum(scale, 1e-30)[:, None])
    return codes.astype(np.int8), _usable(scale, codes), False


def _usable(scale: NDArray[np.float64], codes: NDArray[Any]) -> NDArray[np.float32]:
    """Scales as they are; a row of zeros takes the others' median. Its own may be 0, but the int8 kernels count its bias
    in units of input scale times this one, so that the bias would be lost."""
    empty = (codes == 0).all(1) | (scale <= 0)
    usual = float(np.median(scale[~empty])) if not empty.all() else 1e-3
    found: NDArray[np.float32] = np.where(empty, usual, scale).astype(np.float32)
    return found


@dataclass(frozen=True)
class Stored:
    """Layers whose weights all take 4 bits, those that take 8 for some row, and those rounded to int8's levels."""

    int4: tuple[str, ...]
    int8: tuple[str, ...]
    rounded: tuple[str, ...]


def put_weights(graph: Any, weights: Mapping[str, Placed]) -> Stored:
    """Replace every weight by its codes."""
    from onnx import numpy_helper

    initializers = {each.name: each for each in graph.graph.initializer}
    small: list[str] = []
    wide: list[str] = []
    rounded: list[str] = []
    for name, placed in weights.items():
        codes, scale, exact = codes_of(placed)
        base = f"{name}_quantized"
        if base in initializers:
            graph.graph.initializer.remove(initializers[base])
            initializers[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))
            _rescale_bias(graph, initializers, base, scale)
        else:  # fp32 activations: the weight alone is dequantized
            _dequantize(graph, name, scale, 1 if placed.transposed else 0)
        all_small = _Layout(graph, base).store(codes, placed)
        (small if all_small else wide).append(placed.layer)
        if not exact:
            rounded.append(placed.layer)
    return Stored(tuple(small), tuple(wide), tuple(rounded))


def _dequantize(graph: Any, name: str, scale: NDArray[np.float32], axis: int) -> None:
    """A weight held as codes, dequantized when the session starts."""
    from onnx import helper, numpy_helper

    old = next(each for each in graph.graph.initializer if each.name == name)
    graph.graph.initializer.remove(old)
    base = f"{name}_quantized"
    graph.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    node = helper.make_node("DequantizeLinear", [base, f"{name}_scale"], [name], name=f"{name}_dequantize", axis=axis)
    graph.graph.node.insert(0, node)


def _rescale_bias(graph: Any, initializers: Mapping[str, Any], base: str, scale: NDArray[np.float32]) -> None:
    """A bias is stored in units of input scale times weight scale: with other weight scales it has other units."""
    from onnx import numpy_helper

    makers = {output: node for node in graph.graph.node for output in node.output}
    weight = next(node for node in graph.graph.node if node.op_type == "DequantizeLinear" and node.input[0] == base)
    for node in graph.graph.node:
        if weight.output[0] not in node.input or len(node.input) < 3 or node.op_type not in ("Conv", "Gemm"):
            continue
        bias, data = makers.get(node.input[2]), makers.get(node.input[0])
        if bias is None or data is None or bias.op_type != "DequantizeLinear":
            continue
        old_codes, old_scale = (numpy_helper.to_array(initializers[bias.input[place]]) for place in (0, 1))
        value = old_codes.astype(np.float64) * old_scale
        unit = (numpy_helper.to_array(initializers[data.input[1]]).astype(np.float64) * scale).astype(np.float32)
        unit = np.maximum(unit, np.abs(value).astype(np.float32) / 2**30)  # a pruned row's bias still fits
        codes = np.rint(value / unit).astype(np.int32)
        initializers[bias.input[0]].CopyFrom(numpy_helper.from_array(codes, bias.input[0]))
        initializers[bias.input[1]].CopyFrom(numpy_helper.from_array(unit.astype(np.float32), bias.input[1]))


@dataclass(frozen=True)
class _Layout:
    """Writes one weight, codes [R, n], as the smallest tensors and the operations that make `base` of them."""

    graph: Any
    base: str

    def store(self, codes: Codes, placed: Placed) -> bool:
        """Whether every row takes 4 bits."""
        kinds = _kinds(codes)
        final = placed.stored.shape
        whole = len(set(kinds.tolist())) == 1
        if whole and kinds[0] != TABLE:  # as it is, in its final shape
            tensor = codes.reshape(final)
            tensor = tensor.T if placed.transposed else tensor
            self._add(np.ascontiguousarray(tensor), kinds[0] == STRAIGHT, self.base)
            return bool(kinds[0] == STRAIGHT)
        parts, order = [], []
        for kind in (STRAIGHT, TABLE, WIDE):
            rows = np.flatnonzero(kinds == kind)
            if len(rows):
                order.append(rows)
                parts.append(self._table(codes[rows]) if kind == TABLE else self._part(codes[rows], kind == STRAIGHT))
        place = np.argsort(np.concatenate(order))
        joined = self._node("Concat", parts, "rows", axis=0) if len(parts) > 1 else parts[0]
        if len(parts) > 1:
            joined = self._node("Gather", [joined, self._constant(place.astype(np.int64), "order")], "laid", axis=0)
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if len(final) > 2:
            steps.append(("Reshape", [self._constant(np.array(final, np.int64), "shape")], {}))
        if placed.transposed:
            steps.append(("Transpose", [], {"perm": [1, 0]}))
        for step, (kind_of, more, attributes) in enumerate(steps or [("Identity", [], {})]):
            last = step == max(len(steps), 1) - 1
            joined = self._node(kind_of, [joined, *more], None if last else f"step{step}", **attributes)
        return bool((kinds != WIDE).all())

    def _part(self, codes: Codes, small: bool) -> str:
        name = f"{self.base}_{'straight' if small else 'wide'}"
        self._add(codes, small, name)
        return name

    def _table(self, codes: Codes) -> str:
        """Rows of few levels that are no straight line: 4-bit places in each row's own table of levels."""
        levels = [np.unique(row) for row in codes]
        table = np.zeros((len(codes), max(map(len, levels))), np.int8)
        places = np.empty(codes.shape, np.uint8)
        for row, own in enumerate(levels):
            table[row, : len(own)] = own
            places[row] = np.searchsorted(own, codes[row])
        packed = self._pack(places, f"{self.base}_places", signed=False)
        wide = self._node("Cast", [packed], "places_wide", to=INT32)
        return self._node("GatherElements", [self._constant(table, "levels"), wide], "levelled", axis=1)

    def _add(self, tensor: Codes, small: bool, name: str) -> None:
        from onnx import numpy_helper

        if not small:
            self.graph.graph.initializer.append(numpy_helper.from_array(tensor, name))
            return
        packed = self._pack(tensor.view(np.uint8), f"{name}_int4", signed=True)
        self._insert("Cast", [packed], name, to=INT8)

    def _pack(self, values: NDArray[np.uint8], name: str, signed: bool) -> str:
        """Two values to a byte."""
        import onnx

        flat = values.reshape(-1)
        pairs = np.append(flat, np.zeros(len(flat) % 2, np.uint8)).reshape(-1, 2) & 0xF
        packed = (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
        kind = onnx.TensorProto.INT4 if signed else onnx.TensorProto.UINT4
        self.graph.graph.initializer.append(onnx.helper.make_tensor(name, kind, list(values.shape), packed, raw=True))
        return name

    def _constant(self, values: NDArray[Any], name: str) -> str:
        from onnx import numpy_helper

        full = f"{self.base}_{name}"
        self.graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), full))
        return full

    def _node(self, operation: str, inputs: list[str], output: str | None, **attributes: Any) -> str:
        """output: None for the weight itself."""
        name = self.base if output is None else f"{self.base}_{output}"
        self._insert(operation, inputs, name, **attributes)
        return name

    def _insert(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Before every node that reads the weight, after those that made the inputs."""
        from onnx import helper

        nodes = self.graph.graph.node
        makers = [place for place, node in enumerate(nodes) if set(node.output) & set(inputs)]
        node = helper.make_node(operation, inputs, [output], name=f"{output}_made", **attributes)
        nodes.insert(max(makers, default=-1) + 1, node)


STRAIGHT, TABLE, WIDE = 0, 1, 2  # a row's codes: small whole numbers; few levels of int8; more
INT8, INT32 = 3, 6  # onnx.TensorProto's numbers


def _kinds(codes: Codes) -> NDArray[np.int64]:
    """What each row takes [R]."""
    ordered = np.sort(codes, 1)
    levels = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
    straight = np.abs(codes.astype(np.int16)).max(1) <= 7
    # a table costs 8 bits a level: of use where the row is longer than that
    table = (levels <= 16) & (codes.shape[1] > 2 * levels)
    return np.where(straight, STRAIGHT, np.where(table, TABLE, WIDE))
