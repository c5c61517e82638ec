"""How long each layer takes by itself, at each width, in the runtime that ships: what a budget of latency is counted in.

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
    found = []
    for layer in layers:
        rounds: dict[str, list[float]] = {form: [] for form in FORMS}  # a layer that is never called takes no time
        for (number, shape), count in Counter(calls.get(layer.name, ())).items():
            runs = {form: _session(_graph(layer.modules[number], shape, form), shape, threads) for form in FORMS}
            for form, times in _in_turn(runs, seconds * count / len(calls[layer.name])).items():
                before = rounds[form] or [0.0] * len(times)
                rounds[form] = [sofar + count * one for sofar, one in zip(before, times, strict=False)]
        found.append(LayerSpeed(layer.name, paired_medians(rounds)))
        on_layer()
    return found


def paired_medians(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Form -> median milliseconds, from paired rounds. int4 counts as faster than int8 only where the rounds show it: else
    both have the int8's time, so that no plan is made of noise."""
    found = {form: statistics.median(times) if times else 0.0 for form, times in rounds.items()}
    pairs = list(zip(rounds["int4"], rounds["int8"], strict=False))
    if pairs and sum(int4_time < int8_time for int4_time, int8_time in pairs) < CERTAIN * len(pairs):
        found["int4"] = found["int8"]
    return found


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
    found: dict[str, list[float]] = {form: [] for form in runs}
    calls = 1
    for run in runs.values():
        run()
        start = time.perf_counter()
        run()
        calls = max(calls, int(2e-4 / max(time.perf_counter() - start, 1e-7)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["float"]) < 9:
        for form, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls):
                run()
            found[form].append(1e3 * (time.perf_counter() - start) / calls)
    return found


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


def _graph(module: nn.Module, shape: tuple[int, ...], form: str) -> Any:
    """x -> y with one Conv or Gemm in the middle, its weights as `form` has them."""
    from onnx import TensorProto, helper, numpy_helper

    convolution = isinstance(module, nn.Conv2d)
    weight = module.weight.detach().float().cpu().numpy()  # type: ignore[operator]
    outputs = 0 if convolution else 1  # the axis of the output channels; a Gemm has them last, as an export does
    if not convolution:
        weight = np.ascontiguousarray(weight.T)
    bias = None if module.bias is None else module.bias.detach().float().cpu().numpy()  # type: ignore[operator]
    shape = shape if convolution else (int(np.prod(shape[:-1])), shape[-1])
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def through_int8(source: str, name: str, scale: float) -> str:
        pair = [constant(f"{name}_scale", np.float32(scale)), constant(f"{name}_zero", np.uint8(128))]
        nodes.append(helper.make_node("QuantizeLinear", [source, *pair], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *pair], [name]))
        return name

    inputs = ["x"]
    if form == "float":
        inputs.append(constant("w", weight))
        if bias is not None:
            inputs.append(constant("b", bias))
        out = "y"
    else:
        inputs = [through_int8("x", "x8", 0.03)]
        largest = 7 if form == "int4" else 127
        rest = tuple(axis for axis in range(weight.ndim) if axis != outputs)
        scales = (np.abs(weight).max(rest, keepdims=True) / largest).clip(1e-8).astype(np.float32)
        codes, scale = np.round(weight / scales).astype(np.int8), scales.flatten()
        if form == "int4":  # as an export writes it: int8 once the session starts, since that is what the kernels take
            packed = pack_nibbles(codes.flatten().view(np.uint8) & 0xF, low_first=True).tobytes()
            constants.append(helper.make_tensor("w_4", TensorProto.INT4, codes.shape, packed, raw=True))
            nodes.append(helper.make_node("Cast", ["w_4"], ["w_q"], to=TensorProto.INT8))
        else:
            constant("w_q", codes)
        pair = [constant("w_scale", scale), constant("w_zero", np.zeros(len(scale), np.int8))]
        nodes.append(helper.make_node("DequantizeLinear", ["w_q", *pair], ["w"], axis=outputs))
        inputs.append("w")
        if bias is not None:
            constant("b_q", np.round(bias / (0.03 * scale)).clip(-(2**31), 2**31 - 1).astype(np.int32))
            pair = [
                constant("b_scale", (0.03 * scale).astype(np.float32)),
                constant("b_zero", np.zeros(len(scale), np.int32)),
            ]
            nodes.append(helper.make_node("DequantizeLinear", ["b_q", *pair], ["b"], axis=0))
            inputs.append("b")
        out = "y_float" if convolution else "y"
    if isinstance(module, nn.Conv2d):
        if isinstance(module.padding, str):
            padding: dict[str, Any] = {"auto_pad": {"same": "SAME_UPPER", "valid": "VALID"}[module.padding]}
        else:
            padding = {"pads": [*module.padding, *module.padding]}
        nodes.append(
            helper.make_node(
                "Conv", inputs, [out], group=module.groups, strides=module.stride, dilations=module.dilation,
                kernel_shape=module.kernel_size, **padding,
            )
        )  # fmt: skip
    else:
        nodes.append(helper.make_node("Gemm", inputs, [out]))
    if out != "y":
        through_int8(out, "y", 0.05)
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
