"""Activations in few bits: the grid, its learned step, and that what was trained is what is saved, loaded and exported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.artifacts import has_vnni
from helpers.recipes import write_recipe
from helpers.runs import logits_again
from safetensors import safe_open
from torch import nn

import fairquant
from fairquant.bits import find_layers
from fairquant.bits.activations import (
    InputQuantizer,
    attach_input_quantizers,
    best_step,
    describe_inputs,
    quantize_inputs,
    remove_input_quantizers,
)
from fairquant.errors import UserError
from fairquant.roles import Batch


def on_grid(bits: int, signed: bool, step: float) -> InputQuantizer:
    quantizer = InputQuantizer(bits, signed)
    with torch.no_grad():
        quantizer.log_step.fill_(np.log(step))
    return quantizer


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_lie_on_the_grid_and_within_its_bounds(bits, signed):
    quantizer = on_grid(bits, signed, 0.1)
    values = torch.randn(3, 1000) * 4
    out = quantizer(values)
    codes = out / quantizer.step
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert len(torch.unique(codes.round())) <= 2**bits
    low, high = quantizer.bounds
    assert low - 1e-6 <= float(out.min().detach()) <= float(out.max().detach()) <= high + 1e-6
    inside = (values >= low) & (values <= high)
    assert (out - values)[inside].abs().max() <= 0.05 + 1e-5


def test_gradients_are_those_of_learned_steps():
    quantizer = on_grid(3, False, 0.5).eval()
    values = torch.tensor([[-1.0, 0.6, 1.4, 9.0]], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]  # straight through, and none where it is clipped
    step = 0.5
    expected = 0 + (1 - 0.6 / step) + (3 - 1.4 / step) + 7  # dy/dstep: rounding error inside, the last level outside
    assert float(quantizer.log_step.grad) == pytest.approx(expected * step, rel=1e-5)


def test_the_step_starts_where_the_error_is_least():
    values = torch.cat([torch.rand(5000), torch.tensor([8.0])])
    step = best_step(values, (0, 15))
    error = lambda s: float(((values / s).clamp(0, 15).round() * s - values).square().mean())
    assert error(step) <= min(error(s) for s in np.linspace(0.02, 8 / 15, 200)) * 1.05
    assert best_step(torch.zeros(10), (0, 15)) > 0


def test_quantizers_go_on_every_layer_and_off_again_without_a_trace():
    torch.manual_seed(0)
    shared = nn.Linear(8, 8)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), shared, nn.ReLU(), nn.Linear(8, 2)
    )
    images = torch.randn(6, 3, 8, 8)
    plain, state = model(images), list(model.state_dict())
    stream = [Batch(images, torch.zeros(6, dtype=torch.int64), torch.zeros(6, dtype=torch.int64))]
    bits = quantize_inputs(model, find_layers(model, "channel"), stream, 4, 8)
    assert bits == {"0": 8, "4": 4, "6": 4}
    assert describe_inputs(model) == {"0": [8, True], "4": [4, False], "6": [4, False]}
    assert not torch.equal(model(images), plain)
    original = remove_input_quantizers(model)
    assert set(original) == {"0", "4", "6"}
    assert original["4"][0] == 0.0 < original["4"][1]
    assert torch.equal(model(images), plain)
    assert list(model.state_dict()) == state
    for wrong in ({"nowhere": [4, True]}, {"0": [16, True]}, {"0": "x"}, {"1": [4, True]}):
        with pytest.raises(UserError, match="do not fit the model"):
            attach_input_quantizers(model, wrong)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import os
    from pathlib import Path

    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("activations"))
    try:
        recipe = write_recipe(method="fq-baq", activations={"bits": 4}, budget={"average_bits": None, "bops": "12M"})
        return fairquant.run(recipe, runs=Path.cwd() / "runs")
    finally:
        os.chdir(before)


def test_a_run_learns_the_steps_ships_them_and_counts_them(run):
    report, path = run.report, run.folder / "model.safetensors"
    assert report["bits"]["bops"] <= 12e6  # with activations in float, 32 bits each, this budget has no plan
    with safe_open(path, "pt") as file:
        steps = [name for name in file.keys() if name.endswith("log_step")]  # noqa: SIM118
    model = fairquant.load(path)
    described = describe_inputs(model)
    assert len(steps) == len(described) > 3
    assert sorted({bits for bits, _ in described.values()}) == [4, 8]
    assert np.array_equal(logits_again(run), np.load(run.folder / "predictions.npz")["logits"])


def test_steps_are_learned_in_training_and_only_started_without(tmp_path):
    changes = {"activations": {"bits": 3}, "budget": {"average_bits": 4}}
    steps = {}
    for method in ("uniform-4-ptq", "uniform-4"):
        done = fairquant.run(write_recipe(method=method, **changes), runs=tmp_path)
        model = done.load()
        steps[method] = [float(m.step.detach()) for m in model.modules() if isinstance(m, InputQuantizer)]
    moved = np.abs(np.array(steps["uniform-4"]) / np.array(steps["uniform-4-ptq"]) - 1)
    assert (moved > 1e-6).mean() > 0.8  # how far depends on the machine


def test_the_exported_file_takes_its_ranges_from_training(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    from fairquant.export.onnx import export_onnx
    from fairquant.export.ranges import Calibration
    from fairquant.export.runtime import open_runtime

    images = np.random.default_rng(0).normal(size=(32, 3, 32, 32)).astype(np.float32)
    export_onnx(run.folder / "model.safetensors", tmp_path / "m.onnx", calibration=Calibration([images]))
    graph = onnx.load(tmp_path / "m.onnx").graph
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    scale = next(v for k, v in stored.items() if k.startswith("images") and k.endswith("scale"))
    model = fairquant.load(run.folder / "model.safetensors")
    first = next(m for m in model.modules() if isinstance(m, InputQuantizer))
    assert float(scale) == pytest.approx(float(first.step.detach()), rel=1e-4)
    assert not [node for node in graph.node if node.op_type in ("Round", "Exp")]
    one, two = (open_runtime(path).logits(images) for path in (tmp_path / "m.onnx", run.folder / "model.safetensors"))
    # at 0.3 bits per weight the logits are near 0
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > (0.9 if has_vnni() else 0.7)
