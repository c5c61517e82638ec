"""How long each layer takes alone, at each width, in the runtime that ships: the unit of a latency budget.

A layer is put into a graph of its own as an export has it: 8-bit activations, weights of up to 4 bits in int4 and up to 8 in
int8. All forms of a layer are timed in turn, in the same minute.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.bits.packing import pack_nibbles
from fairquant.roles import Layer

FORMS = ("int4", "int8", "float")
FLOAT = 32
#: In how many of the paired rounds a form of fewer bits has to be faster to count as faster.
CERTAIN = 0.75


@dataclass(frozen=True)
class LayerSpeed:
    """milliseconds: form -> median over all calls of the layer in one pass of the network."""

    name: str
    milliseconds: Mapping[str, float]

    def at(self, bits: int) -> float:
        """The time at a width: of the form that holds its codes."""
        return self.milliseconds["float" if bits > 8 else "int8" if bits > 4 else "int4"]


def measure_layers(
    network: nn.Module, layers: Sequence[Layer], images: Tensor, seconds: float, threads: int,
    on_layer: Callable[[], None] = lambda: None,
) -> list[LayerSpeed]:  # fmt: skip
    """images [B, 3, H, W] set the shapes; seconds: for each layer."""
    calls = _input_shapes(network, layers, images)
    speeds = []
    for layer in layers:
        rounds: dict[str, list[float]] = {form: [] for form in FORMS}  # a layer that is never called takes no time
        for (number, shape), count in Counter(calls.get(layer.name, ())).items():
            module = layer.modules[number]
            assert isinstance(module, nn.Conv2d | nn.Linear)
            runs = {form: _session(_graph(module, shape, form), shape, threads) for form in FORMS}
            for form, times in _in_turn(runs, seconds * count / len(calls[layer.name])).items():
                before = rounds[form] or [0.0] * len(times)
                rounds[form] = [sofar + count * one for sofar, one in zip(before, times, strict=False)]
        speeds.append(LayerSpeed(layer.name, paired_medians(rounds)))
        on_layer()
    return speeds


def paired_medians(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Form -> median milliseconds, from paired rounds. int4 counts as faster than int8 only where the rounds show it: else
    both have the int8's time, so that noise does not drive a plan."""
    medians = {form: statistics.median(times) if times else 0.0 for form, times in rounds.items()}
    pairs = list(zip(rounds["int4"], rounds["int8"], strict=False))
    if pairs and sum(int4_time < int8_time for int4_time, int8_time in pairs) < CERTAIN * len(pairs):
        medians["int4"] = medians["int8"]
    return medians


def _input_shapes(
    network: nn.Module, layers: Sequence[Layer], images: Tensor
) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
    """layer -> (number of the module, shape of its input) of each call in one pass."""
    seen: dict[str, list[tuple[int, tuple[int, ...]]]] = {}

    def watch(name: str, number: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, []).append((number, tuple(inputs[0].shape)))

        return hook

    handles = [
        module.register_forward_pre_hook(watch(layer.name, number))
        for layer in layers
        for number, module in enumerate(layer.modules)
    ]
    try:
        with untouched(network), torch.no_grad():
            network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _in_turn(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of one call in each of many rounds, every form once a round; at least 9 rounds."""
    times: dict[str, list[float]] = {form: [] for form in runs}
    calls = 1
    for run in runs.values():
        run()
        start = time.perf_counter()
        run()
        calls = max(calls, int(2e-4 / max(time.perf_counter() - start, 1e-7)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["float"]) < 9:
        for form, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[form].append(1e3 * (time.perf_counter() - start) / calls)
    return times


def _session(model: Any, shape: tuple[int, ...], threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = np.random.default_rng(0).normal(size=_flat(shape, session)).astype(np.float32)
    return lambda: session.run(None, {"x": values})


def _flat(shape: tuple[int, ...], session: Any) -> tuple[int, ...]:
    """A linear layer takes its tokens as rows."""
    rank = len(session.get_inputs()[0].shape)
    return shape if rank == len(shape) else (int(np.prod(shape[:-1])), shape[-1])


def _graph(module: nn.Conv2d | nn.Linear, shape: tuple[int, ...], form: str) -> Any:
    """x -> y with one Conv or Gemm in the middle, its weights as `form` has them. (onnx has no types here.)"""
    return _LayerGraph(module, form).model(shape)


class _LayerGraph:
    """Builds the graph of one layer."""

    def __init__(self, module: nn.Conv2d | nn.Linear, form: str) -> None:
        self.module, self.form = module, form
        self.convolution = isinstance(module, nn.Conv2d)
        weight = module.weight.detach().float().cpu().numpy()
        self.axis = 0 if self.convolution else 1  # of the output channels; a Gemm has them last, as an export does
        self.weight = weight if self.convolution else np.ascontiguousarray(weight.T)
        self.bias = None if module.bias is None else module.bias.detach().float().cpu().numpy()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def model(self, shape: tuple[int, ...]) -> Any:
        """shape: of the layer's input."""
        from onnx import TensorProto, helper

        shape = shape if self.convolution else (int(np.prod(shape[:-1])), shape[-1])
        quantized = self.form != "float"
        inputs = self._quantized_inputs() if quantized else self._float_inputs()
        out = "y_float" if quantized and self.convolution else "y"
        operation, attributes = self._operation()
        self.nodes.append(helper.make_node(operation, inputs, [out], **attributes))
        if out != "y":
            self._through_int8(out, "y", 0.05)
        graph = helper.make_graph(
            self.nodes, "layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], self.constants,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def _float_inputs(self) -> list[str]:
        bias = [] if self.bias is None else [self._constant("b", self.bias)]
        return ["x", self._constant("w", self.weight), *bias]

    def _quantized_inputs(self) -> list[str]:
        """The input through int8, codes and their scales, and the bias in int32."""
        scale = 0.03
        data = self._through_int8("x", "x8", scale)
        largest = 7 if self.form == "int4" else 127
        rest = tuple(axis for axis in range(self.weight.ndim) if axis != self.axis)
        scales = (np.abs(self.weight).max(rest, keepdims=True) / largest).clip(1e-8).astype(np.float32)
        codes, flat = np.round(self.weight / scales).astype(np.int8), scales.flatten()
        weight = self._dequantized("w", self._codes(codes), flat, np.zeros(len(flat), np.int8), self.axis)
        if self.bias is None:
            return [data, weight]
        bias_codes = np.round(self.bias / (scale * flat)).clip(-(2**31), 2**31 - 1).astype(np.int32)
        units, zeros = (scale * flat).astype(np.float32), np.zeros(len(flat), np.int32)
        return [data, weight, self._dequantized("b", self._constant("b_q", bias_codes), units, zeros, 0)]

    def _codes(self, codes: NDArray[np.int8]) -> str:
        """As an export writes them: int4 becomes int8 once the session starts, since that is what the kernels take."""
        from onnx import TensorProto, helper

        if self.form != "int4":
            return self._constant("w_q", codes)
        packed = pack_nibbles((codes.flatten().view(np.uint8) & 0xF).astype(np.uint8), low_first=True).tobytes()
        self.constants.append(helper.make_tensor("w_4", TensorProto.INT4, codes.shape, packed, raw=True))
        self.nodes.append(helper.make_node("Cast", ["w_4"], ["w_q"], to=TensorProto.INT8))
        return "w_q"

    def _dequantized(self, name: str, codes: str, scale: NDArray[Any], zero: NDArray[Any], axis: int) -> str:
        from onnx import helper

        pair = [self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero", zero)]
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, *pair], [name], axis=axis))
        return name

    def _through_int8(self, source: str, name: str, scale: float) -> str:
        from onnx import helper

        pair = [self._constant(f"{name}_scale", np.float32(scale)), self._constant(f"{name}_zero", np.uint8(128))]
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *pair], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *pair], [name]))
        return name

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _operation(self) -> tuple[str, dict[str, Any]]:
        """The operator and its attributes."""
        module = self.module
        if not isinstance(module, nn.Conv2d):
            return "Gemm", {}
        attributes: dict[str, Any] = {
            "group": module.groups, "strides": module.stride, "dilations": module.dilation,
            "kernel_shape": module.kernel_size,
        }  # fmt: skip
        if isinstance(module.padding, str):
            return "Conv", attributes | {"auto_pad": {"same": "SAME_UPPER", "valid": "VALID"}[module.padding]}
        return "Conv", attributes | {"pads": [*module.padding, *module.padding]}
