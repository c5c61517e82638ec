"""Each layer timed alone, in the integer kernels that it runs in."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from helpers.artifacts import has_vnni
from torch import nn

from fairquant.bits import find_layers


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "linear", "tokens"])
def test_a_layer_timed_is_the_layer_in_integer_kernels(kind, tmp_path):
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    from fairquant.export.layer_speed import _graph

    torch.manual_seed(1)
    module, shape = {
        "convolution": (nn.Conv2d(16, 32, 3, stride=2, padding=1), (1, 16, 9, 9)),
        "depthwise": (nn.Conv2d(16, 16, 3, groups=16, bias=False, padding="same"), (1, 16, 9, 9)),
        "linear": (nn.Linear(32, 24), (1, 32)),
        "tokens": (nn.Linear(32, 24), (1, 5, 32)),
    }[kind]
    images = torch.rand(shape) * 2 - 1
    with torch.no_grad():
        right = module(images).numpy()
    for form, tolerance in (("float", 1e-5), ("int8", 0.08 if has_vnni() else 0.3), ("int4", 0.35)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{form}.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            _graph(module, shape, form).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        inputs = images.numpy() if kind != "tokens" else images.numpy()[0]
        (answer,) = session.run(None, {"x": inputs})
        assert np.abs(answer.reshape(right.shape) - right).max() < tolerance, form
        kernels = {node.op_type for node in onnx.load(tmp_path / f"{form}.onnx").graph.node}
        assert form == "float" or kernels & {"QLinearConv", "QGemm"}, kernels


def test_a_layer_called_twice_takes_twice_and_one_that_is_not_called_takes_no_time(monkeypatch):
    """Each call is said to take one millisecond: a machine's own clock proves nothing about the sums."""
    pytest.importorskip("onnx")
    from fairquant.export import layer_speed
    from fairquant.export.layer_speed import measure_layers

    def in_turn(runs, seconds):
        for run in runs.values():
            run()
        return {form: [1.0] * 9 for form in runs}

    monkeypatch.setattr(layer_speed, "_in_turn", in_turn)

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.twice, self.never = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, images):
            return self.once(self.twice(self.twice(images)))

    model = Odd()
    layers = find_layers(model, "tensor")
    milliseconds = {each.name: each.at(8) for each in measure_layers(model, layers, torch.zeros(1, 3, 96, 96), 0.2, 1)}
    assert milliseconds == {"once": 1.0, "twice": 2.0, "never": 0.0}


def test_the_time_of_a_call_is_that_of_one_call_of_many():
    from fairquant.export.layer_speed import _in_turn

    calls = {"float": 0, "int8": 0}

    def run(form):
        calls[form] += 1

    times = _in_turn({form: lambda form=form: run(form) for form in calls}, 0.01)
    assert len(times["float"]) == len(times["int8"]) >= 9
    assert calls["float"] == calls["int8"] > 9 * 10, "a call too short to be timed is repeated in every round"
    assert all(0 < milliseconds < 1 for milliseconds in (np.median(times[form]) for form in times))


def test_noise_makes_no_width_faster():
    from fairquant.export.layer_speed import paired_medians

    draw = np.random.default_rng(0)
    one, other = (list(1 + 0.1 * draw.normal(size=99)) for _ in range(2))
    noise = paired_medians({"int4": one, "int8": other, "float": [3.0] * 99})
    assert noise["int4"] == noise["int8"]
    fewer = [value - 0.2 for value in other]
    assert paired_medians({"int4": fewer, "int8": other, "float": other})["int4"] == statistics.median(fewer)
