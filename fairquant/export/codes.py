"""The artifact's codes in place of the weights of an ONNX graph.

A row of at most 16 levels is stored in 4 bits a weight, any other in 8; Cast, GatherElements, Concat and Gather lay them
out as the int8 that the kernels take, once, when the session starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.artifact.load import Artifact
from fairquant.bits.packing import pack_nibbles
from fairquant.roles import QuantizedWeight

Codes = NDArray[np.int8]


@dataclass(frozen=True)
class GraphWeight:
    """A layer's weight as it stands in the graph: the layer's name, whether it is stored transposed, and what the exporter
    folded into each row: the factor of a batch norm, and the offset too where the weight is standardized."""

    layer: str
    stored: QuantizedWeight
    transposed: bool
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """The weight in the graph, as rows [R, n]."""
        decoded = self.stored.decode().double().numpy().reshape(len(self.factor), -1)
        return decoded * self.factor[:, None] + self.offset[:, None]


def find_weights(graph: Any, artifact: Artifact) -> tuple[dict[str, GraphWeight], list[str]]:
    """Initializer name -> the artifact's weight in it, found by value: names do not survive every exporter. And the layers that
    are in no initializer, because the exporter computed something else from them, which stays in float32, or left them out."""
    from onnx import numpy_helper

    decoded = {layer: weight.decode().double().numpy() for layer, weight in artifact.weights.items()}
    weights: dict[str, GraphWeight] = {}
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
                if (fit := _fit(rows, own)) is not None:
                    missing.discard(layer)  # layers of the same weights, such as pruned ones, may share an initializer
                    placed = GraphWeight(layer, artifact.weights[layer], transposed, *fit)
                    weights.setdefault(initializer.name, placed)
    return weights, sorted(missing)


def _fit(rows: NDArray[np.float64], own: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """factor, offset [R] with rows = own * factor + offset, both [R, n]; the offset is 0 where a factor is enough. None where
    there are no such two."""
    tolerance = 1e-6 * max(abs(rows).max(), 1e-30)
    energy = (own**2).sum(1)
    factor = np.where(energy > 0, (rows * own).sum(1) / np.maximum(energy, 1e-300), 1.0)
    if np.allclose(rows, own * factor[:, None], rtol=1e-4, atol=tolerance):
        return factor, np.zeros(len(rows))
    means, own_means = rows.mean(1), own.mean(1)
    centred = own - own_means[:, None]
    spread = (centred**2).sum(1)
    flat = spread <= 1e-12 * np.maximum(energy, 1e-300)  # a row of one value: nothing but an offset can be told
    factor = np.where(flat, 0.0, ((rows - means[:, None]) * centred).sum(1) / np.where(flat, 1.0, spread))
    offset = means - factor * own_means
    fits = np.allclose(rows, own * factor[:, None] + offset[:, None], rtol=1e-3, atol=100 * tolerance)
    return (factor, offset) if fits and own.shape[1] > 2 and not flat.all() else None


def codes_of(placed: GraphWeight) -> tuple[NDArray[np.int8], NDArray[np.float32], bool]:
    """Codes [R, n] and scales [R] with value = code * scale, batch norm's factor in the scale; whether they are exact."""
    stored = placed.stored
    sign = np.where(placed.factor < 0, -1, 1)
    if stored.shift is None and stored.codebook is None and not placed.offset.any():
        codes = stored.codes.numpy().astype(np.int16) * sign[:, None]
        scale = stored.scale.double().numpy() * np.abs(placed.factor)
        return codes.astype(np.int8), _usable(scale, codes), True
    values = placed.values
    scale = np.abs(values).max(1) / 127
    codes = np.rint(values / np.maximum(scale, 1e-30)[:, None])
    return codes.astype(np.int8), _usable(scale, codes), False


def _usable(scale: NDArray[np.float64], codes: NDArray[Any]) -> NDArray[np.float32]:
    """Scales as they are; a row of zeros takes the others' median. Its own may be 0, but the int8 kernels count its bias
    in units of input scale times this one, so that the bias would be lost."""
    empty = (codes == 0).all(1) | (scale <= 0)
    usual = float(np.median(scale[~empty])) if not empty.all() else 1e-3
    usable: NDArray[np.float32] = np.where(empty, usual, scale).astype(np.float32)
    return usable


@dataclass(frozen=True)
class WeightStorage:
    """Layers whose weights all take 4 bits, those that take 8 for some row, and those rounded to int8's levels."""

    int4: tuple[str, ...]
    int8: tuple[str, ...]
    rounded: tuple[str, ...]


def put_weights(graph: Any, weights: Mapping[str, GraphWeight]) -> WeightStorage:
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
    return WeightStorage(tuple(small), tuple(wide), tuple(rounded))


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

    def store(self, codes: Codes, placed: GraphWeight) -> bool:
        """Whether every row takes 4 bits."""
        kinds = _kinds(codes)
        final = placed.stored.shape
        whole = len(set(kinds.tolist())) == 1
        if whole and kinds[0] != LUT4:  # as it is, in its final shape
            tensor = codes.reshape(final)
            tensor = tensor.T if placed.transposed else tensor
            self._add(np.ascontiguousarray(tensor), kinds[0] == INT4, self.base)
            return bool(kinds[0] == INT4)
        parts, order = [], []
        for kind in (INT4, LUT4, INT8):
            rows = np.flatnonzero(kinds == kind)
            if len(rows):
                order.append(rows)
                parts.append(self._table(codes[rows]) if kind == LUT4 else self._part(codes[rows], kind == INT4))
        place = np.argsort(np.concatenate(order))
        merged = self._node("Concat", parts, "rows", axis=0) if len(parts) > 1 else parts[0]
        if len(parts) > 1:
            merged = self._node("Gather", [merged, self._constant(place.astype(np.int64), "order")], "laid", axis=0)
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if len(final) > 2:
            steps.append(("Reshape", [self._constant(np.array(final, np.int64), "shape")], {}))
        if placed.transposed:
            steps.append(("Transpose", [], {"perm": [1, 0]}))
        for step, (kind_of, more, attributes) in enumerate(steps or [("Identity", [], {})]):
            last = step == max(len(steps), 1) - 1
            merged = self._node(kind_of, [merged, *more], None if last else f"step{step}", **attributes)
        return bool((kinds != INT8).all())

    def _part(self, codes: Codes, small: bool) -> str:
        name = f"{self.base}_{'straight' if small else 'wide'}"
        self._add(codes, small, name)
        return name

    def _table(self, codes: Codes) -> str:
        """Rows of few, non-uniform levels: 4-bit places in each row's own table of levels."""
        levels = [np.unique(row) for row in codes]
        table = np.zeros((len(codes), max(map(len, levels))), np.int8)
        places = np.empty(codes.shape, np.uint8)
        for row, own in enumerate(levels):
            table[row, : len(own)] = own
            places[row] = np.searchsorted(own, codes[row])
        packed = self._pack(places, f"{self.base}_places", signed=False)
        wide = self._node("Cast", [packed], "places_wide", to=ONNX_INT32)
        return self._node("GatherElements", [self._constant(table, "levels"), wide], "levelled", axis=1)

    def _add(self, tensor: Codes, small: bool, name: str) -> None:
        from onnx import numpy_helper

        if not small:
            self.graph.graph.initializer.append(numpy_helper.from_array(tensor, name))
            return
        packed = self._pack(tensor.view(np.uint8), f"{name}_int4", signed=True)
        self._insert("Cast", [packed], name, to=ONNX_INT8)

    def _pack(self, values: NDArray[np.uint8], name: str, signed: bool) -> str:
        """Two values to a byte."""
        import onnx

        packed = pack_nibbles((values.reshape(-1) & 0xF).astype(np.uint8), low_first=True).tobytes()
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


INT4, LUT4, INT8 = 0, 1, 2  # a row's codes: small whole numbers; few levels of int8; more
ONNX_INT8, ONNX_INT32 = 3, 6  # onnx.TensorProto's numbers


def _kinds(codes: Codes) -> NDArray[np.int64]:
    """The form that each row needs: INT4, LUT4 or INT8 [R]. codes [R, n]."""
    ordered = np.sort(codes, 1)
    levels = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
    straight = np.abs(codes.astype(np.int16)).max(1) <= 7
    # a table costs 8 bits a level: of use where the row is longer than that
    table = (levels <= 16) & (codes.shape[1] > 2 * levels)
    return np.where(straight, INT4, np.where(table, LUT4, INT8))
