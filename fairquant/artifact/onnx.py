"""From the packed file to ONNX: the same integer codes with per-channel scales, activations calibrated, int8 kernels.

torch.onnx writes the graph, ONNX Runtime's own tool places QuantizeLinear and DequantizeLinear and calibrates activations;
then the weights that tool made up are replaced by the artifact's codes, so that what was trained is what runs. Codes of at
most 4 bits are stored as int4. Batch norm is folded: its factor goes into the scales.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairquant.artifact.format import BLANK
from fairquant.artifact.load import Artifact, load, read_artifact
from fairquant.errors import UserError
from fairquant.files import write_atomically
from fairquant.roles import QuantizedWeight

Activations = Literal["int8", "fp32"]
Method = Literal["minmax", "percentile", "entropy"]
OPSET = 21  # the first with int4
FORMAT, CHECKSUM = "fairquant-onnx-1", "checksum"


@dataclass(frozen=True)
class Exported:
    """What was written: bytes, layers stored with int4 and int8 codes, and layers whose levels had to be rounded to int8
    (codebooks and dead zones are no straight line)."""

    path: Path
    bytes: int
    int4: tuple[str, ...]
    int8: tuple[str, ...]
    rounded: tuple[str, ...]


def need_onnx() -> None:
    """UserError where the extra is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'export needs {error.name}: pip install "fairquant[deploy]"') from error


def export_onnx(
    source: Path, out: Path, *, activations: Activations = "int8", calibration: Iterable[NDArray[np.float32]] = (),
    method: Method = "percentile", model: nn.Module | None = None,
) -> Exported:  # fmt: skip
    """Write `out`. calibration: batches [N, 3, H, W] of normalised images, needed for int8 activations.

    Raises UserError where the file cannot be read, there is no calibration image, or the model cannot be traced.
    """
    need_onnx()
    import onnx

    artifact = read_artifact(source)
    network = load(source, model)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        _trace(network, artifact, plain)
        graph = onnx.load(plain)
        weights = find_weights(graph, artifact, network)
        if activations == "int8":
            quantized = Path(folder) / "quantized.onnx"
            _calibrate(plain, quantized, list(calibration), method, keep=_kept(graph, weights))
            graph = onnx.load(quantized)
        facts = put_weights(graph, weights)
        describe(graph, artifact, activations, method)
        onnx.checker.check_model(graph, full_check=True)
        content = sealed(graph)
    write_atomically(out, content)
    return Exported(out, len(content), *facts)


def _trace(network: nn.Module, artifact: Artifact, out: Path) -> None:
    import logging

    size = int(artifact.metadata["preprocessing"]["image_size"])
    example = torch.zeros(2, 3, size, size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network.to(memory_format=torch.contiguous_format), (example,), str(out),  # type: ignore[call-overload]
                input_names=["images"], output_names=["logits"], opset_version=OPSET, dynamo=True, external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},), verbose=False,
            )  # fmt: skip
        except Exception as error:
            raise UserError(f"the model cannot be traced to ONNX: {str(error).strip().splitlines()[0]}") from error


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
                    found.setdefault(initializer.name, Placed(layer, artifact.weights[layer], transposed, factor))
    missing = set(decoded) - {placed.layer for placed in found.values()}
    if missing:
        raise UserError(f"the exporter changed the weights of {', '.join(sorted(missing))} beyond recognition")
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


def _calibrate(plain: Path, out: Path, batches: list[NDArray[np.float32]], method: Method, keep: list[str]) -> None:
    """ONNX Runtime's static quantization: where Q and DQ stand, and the ranges of activations."""
    import logging

    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    if not batches:
        raise UserError(
            "int8 activations need calibration images: give the dataset, --images FOLDER, or --activations fp32"
        )

    batches = [batch for batch in batches if len(batch) == len(batches[0])]  # histograms want one size

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.left, None)
            return None if batch is None else {"images": batch}

    methods = {
        "minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy,
    }  # fmt: skip
    extra = {"CalibPercentile": 99.99} if method == "percentile" else {}
    products = _products(plain)
    # products of activations, attention, stay in float: what Q and DQ around them cost is more than int8 saves
    only = {"op_types_to_quantize": ["Conv", "Gemm", "MatMul"]} if products else {}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it talks
            quantize_static(
                str(plain), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, calibrate_method=methods[method], nodes_to_exclude=[*keep, *products],
                extra_options=extra, **only,
            )  # fmt: skip
    finally:
        root.setLevel(level)


def _products(plain: Path) -> list[str]:
    """Matrix products of which neither side is a weight."""
    import onnx

    graph = onnx.load(plain).graph
    weights = {each.name for each in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]


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


def put_weights(graph: Any, weights: Mapping[str, Placed]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Replace every weight by its codes: (layers in int4, in int8, rounded)."""
    from onnx import helper, numpy_helper

    initializers = {each.name: each for each in graph.graph.initializer}
    small: list[str] = []
    wide: list[str] = []
    rounded: list[str] = []
    for name, placed in weights.items():
        codes, scale, exact = codes_of(placed)
        shape = placed.stored.shape
        tensor = codes.reshape(shape).T if placed.transposed else codes.reshape(shape)
        fits = bool(np.abs(codes).max(initial=0) <= 7)
        base = f"{name}_quantized"
        if base not in initializers:  # fp32 activations: the weight alone is dequantized
            axis = 1 if placed.transposed else 0
            _dequantize(graph, name, tensor, scale, axis)
        else:
            initializers[base].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(tensor), base))
            initializers[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{name}_scale"))
            _rescale_bias(graph, initializers, base, scale)
        if fits:
            _as_int4(graph, base, tensor, helper)
        (small if fits else wide).append(placed.layer)
        if not exact:
            rounded.append(placed.layer)
    return tuple(small), tuple(wide), tuple(rounded)


def _dequantize(graph: Any, name: str, tensor: NDArray[np.int8], scale: NDArray[np.float32], axis: int) -> None:
    """A weight held as codes, dequantized when the session starts."""
    from onnx import helper, numpy_helper

    old = next(each for each in graph.graph.initializer if each.name == name)
    graph.graph.initializer.remove(old)
    base = f"{name}_quantized"
    graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(tensor), base))
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


def _as_int4(graph: Any, base: str, tensor: NDArray[np.int8], helper: Any) -> None:
    """Two codes to a byte; a Cast, done once when the session starts, gives the int8 that the kernels take."""
    import onnx

    old = next(each for each in graph.graph.initializer if each.name == base)
    graph.graph.initializer.remove(old)
    flat = tensor.reshape(-1)
    padded = np.append(flat, np.zeros(len(flat) % 2, np.int8)).reshape(-1, 2) & 0xF
    packed = (padded[:, 0] | (padded[:, 1] << 4)).astype(np.uint8).tobytes()
    name = f"{base}_int4"
    graph.graph.initializer.append(
        helper.make_tensor(name, onnx.TensorProto.INT4, list(tensor.shape), packed, raw=True)
    )
    graph.graph.node.insert(0, helper.make_node("Cast", [name], [base], name=f"{base}_widen", to=onnx.TensorProto.INT8))


def sealed(graph: Any) -> bytes:
    """The file's content with a checksum over all of it in its metadata."""
    kept = [(each.key, each.value) for each in graph.metadata_props if each.key != CHECKSUM]
    del graph.metadata_props[:]
    for key, value in [*kept, (CHECKSUM, BLANK)]:
        graph.metadata_props.add(key=key, value=value)
    content: bytes = graph.SerializeToString()
    at = content.rindex(BLANK.encode())
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + 64 :]


def describe(graph: Any, artifact: Artifact, activations: str, method: str) -> None:
    """What a service needs to know, in the file's metadata."""
    facts = {
        "fairquant": FORMAT, "classes": artifact.metadata["classes"], "groups": artifact.metadata.get("groups", []),
        "preprocessing": artifact.metadata["preprocessing"], "plan": artifact.metadata["plan"],
        "recipe": artifact.metadata.get("recipe", {}), "activations": activations,
        "calibration": method if activations == "int8" else "none", "audit": artifact.metadata.get("audit", {}),
    }  # fmt: skip
    del graph.metadata_props[:]
    for key, value in facts.items():
        graph.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value, sort_keys=True))
