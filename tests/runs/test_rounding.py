"""Rounding as a step of a run: what ships is what it chose, training starts from it, and a stopped run goes on with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fairquant_fair.block_rounding import Block
from fairquant_fair.fair_gptq import FairGptq
from fairquant_paper.uniform import Uniform
from helpers.recipes import write_recipe
from torch import nn

import fairquant
from fairquant.bits import find_layers
from fairquant.bits.problem import output_errors, weight_errors
from fairquant.recipe import read_recipe
from fairquant.roles import Batch
from fairquant.rounding.expected import errors_of_all, observe
from fairquant.rounding.stage import Rounder
from fairquant.runs.reports import read_report


@pytest.fixture
def chosen(monkeypatch):
    """Layer name -> what the last rounding gave."""
    found = {}
    real = Rounder._say

    def watched(self, name):
        real(self, name)
        found[name] = self._done[name]

    monkeypatch.setattr(Rounder, "_say", watched)
    return found


@pytest.mark.parametrize("quantizer", ["uniform", "baq", "codebook-ema"])
def test_what_ships_without_training_is_what_was_chosen(chosen, quantizer):
    result = fairquant.run(write_recipe(method="fq-gptq-ptq"), f"quantizer.name={quantizer}")
    network = fairquant.load(result.folder / "model.safetensors")
    modules = dict(network.named_modules())
    assert len(chosen) > 5
    assert all(each.compensated for each in chosen.values())
    for name, each in chosen.items():
        assert torch.equal(modules[name].weight, each.weight.decode()), name
    assert result.report["bits"]["average"] <= 2.5
    assert "rounding" in result.report["timings"]


def test_a_block_that_was_learned_ships_as_it_was_learned(chosen):
    """In networks whose blocks are found, without labels."""
    recipe = write_recipe(method="fq-block-rounding-ptq", model={"name": "vit_tiny_patch16_224", "image_size": 32})
    result = fairquant.run(recipe, "rounding.steps=4")
    modules = dict(fairquant.load(result.folder / "model.safetensors").named_modules())
    assert {"blocks.0.attn.qkv", "blocks.11.mlp.fc2", "head"} < chosen.keys()
    for name, each in chosen.items():
        assert torch.equal(modules[name].weight, each.weight.decode()), name


def test_what_is_protected_is_what_the_rounding_sees_apart(monkeypatch):
    seen, real = set(), FairGptq.round
    monkeypatch.setattr(FairGptq, "round", lambda self, problem: seen.add(problem.groups) or real(self, problem))
    report = fairquant.run(write_recipe(method="fq-gptq-ptq"), "protect=classes", "rounding.rounds=1").report
    assert seen == {tuple(report["dataset"]["classes"])}


def test_compensation_is_nearer_to_full_precision_than_the_nearest_points():
    def logits(*overrides: str) -> np.ndarray:
        folder = fairquant.run(write_recipe(method="fq-block-ptq"), *overrides).folder
        return np.load(folder / "predictions.npz")["logits"]

    full = np.load(
        fairquant.run(write_recipe(method="uniform-8-ptq", budget={"average_bits": 8})).folder / "predictions.npz"
    )["logits"]
    nearest, rounded = logits(), logits("rounding.name=fair-gptq")
    assert np.square(rounded - full).mean() < np.square(nearest - full).mean()


@pytest.mark.parametrize(
    "quantizer", ["uniform", "{name: uniform, scale: absmax}", "{name: uniform, scale: learned}", "baq", "codebook-ema"]
)
def test_training_starts_from_just_what_was_rounded(chosen, monkeypatch, quantizer):
    """The weights, and what the quantizers make of them: the same codes, with the same scales."""
    from fairquant.runs import pipeline

    seen, stored = {}, {}
    real = pipeline.train_quantized

    def watched(recipe, run, splits, model, baseline, attachment, replan):
        for layer in attachment.layers:
            seen[layer.name] = layer.weight.detach().clone()
        stored.update(attachment.encode())
        real(recipe, run, splits, model, baseline, attachment, replan)

    monkeypatch.setattr(pipeline, "train_quantized", watched)
    key = "quantizer" if quantizer.startswith("{") else "quantizer.name"
    fairquant.run(write_recipe(method="fq-gptq"), f"{key}={quantizer}")
    assert seen.keys() == chosen.keys()
    assert all(torch.equal(seen[name], chosen[name].weight.decode()) for name in seen)
    for name, each in chosen.items():
        if each.weight.codebook is None:  # of which two words may be the same
            assert torch.equal(stored[name].codes, each.weight.codes), name
        assert torch.allclose(stored[name].decode(), each.weight.decode(), rtol=1e-5, atol=1e-7), name


def test_a_run_stopped_between_two_layers_goes_on_with_those_that_are_done(monkeypatch):
    expected = fairquant.run(write_recipe(method="fq-gptq-ptq"), runs="whole").folder
    monkeypatch.setattr("fairquant.rounding.checkpoint.OFTEN", 0.0)
    real, asked = FairGptq.round, []

    def stops(self, problem):
        asked.append(problem.layer)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(self, problem)

    monkeypatch.setattr(FairGptq, "round", stops)
    with pytest.raises(KeyboardInterrupt):
        fairquant.run(write_recipe(method="fq-gptq-ptq"))
    assert len(list(Path("runs").rglob("rounding.pt"))) == 1
    result = fairquant.run(write_recipe(method="fq-gptq-ptq"))
    assert len(asked) == len(set(asked[4:])) + 4
    assert asked[3] == asked[4]
    assert (result.folder / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert not list(Path("runs").rglob("rounding.pt"))


def test_a_run_stopped_between_two_blocks_goes_on_and_reports_all_of_them(monkeypatch):
    recipe = write_recipe(method="fq-block-rounding-ptq", model={"name": "vit_tiny_patch16_224", "image_size": 32})
    expected = fairquant.run(recipe, "rounding.steps=3", runs="whole")
    assert sum(expected.report["rounding"]["blocks"].values()) == 12
    monkeypatch.setattr("fairquant.rounding.checkpoint.OFTEN", 0.0)
    real, asked = Block.round_block, []

    def stops(self, problem):
        asked.append(problem.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(self, problem)

    monkeypatch.setattr(Block, "round_block", stops)
    with pytest.raises(KeyboardInterrupt):
        fairquant.run(recipe, "rounding.steps=3")
    result = fairquant.run(recipe, "rounding.steps=3")
    assert asked == [f"blocks.{number}" for number in (0, 1, 2, 3, *range(3, 12))]
    assert result.report["rounding"] == expected.report["rounding"]
    assert result.report["artifact"]["sha256"] == expected.report["artifact"]["sha256"]


def test_layers_that_could_not_be_seen_are_said():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rnn, self.head = nn.Conv2d(3, 4, 4, 4), nn.GRU(4, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, images):
            return self.head(self.rnn(self.first(images).flatten(2).transpose(1, 2))[0].mean(1))

    draw = np.random.default_rng(0)
    items = [(torch.from_numpy(draw.normal(size=(3, 16, 16)).astype(np.float32)), n % 2, n // 2 % 2) for n in range(40)]
    result = fairquant.quantize(
        Own(), items, items[:20], method="gptq-ptq", average_bits=3, overrides=["tracking.mlflow=null"]
    )
    log = (result.folder / "log.txt").read_text()
    assert (
        "2 of 4 layers are rounded to the nearest, since their products could not be observed: rnn.weight_hh_l0, rnn.weight_ih_l0"
        in log
    )


def test_the_errors_that_a_plan_is_made_with_are_those_after_compensation():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(8 * 144, 3)
    ).eval()
    layers = find_layers(network, "channel")
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(20, 3, 4, 4, generator=draw).repeat_interleave(4, 2).repeat_interleave(4, 3)
    stream = [Batch(images, torch.zeros(20, dtype=torch.long), torch.arange(20) % 2)]
    moments = observe(network, layers, stream)
    assert set(moments) == {"0", "2", "4"}
    assert moments["2"].shape == (2, 36, 36)
    widths = (0, 2, 3, 8)
    after = errors_of_all(layers, Uniform(), widths, moments)
    for layer in layers:
        nearest = list(weight_errors(layer, Uniform(), widths))
        for number, width in enumerate(widths):
            errors = [
                output_errors(each.flatten(1), moments[layer.name]).sum()
                for each in (after[layer.name][number], nearest[number])
            ]
            assert errors[0] <= errors[1] * (1.001 if width in (0, 8) else 0.97) + 1e-9, (layer.name, width)


def test_a_rounding_needs_a_quantizer(registry):
    assert read_recipe("quickstart", ["rounding.name=gptq"], registry=registry).quantization.rounding.name == "gptq"
    with pytest.raises(fairquant.UserError, match="rounding: needs a quantizer"):
        read_recipe("quickstart", ["method=fp32", "rounding.name=gptq"], registry=registry)


def test_the_report_of_such_a_run_can_be_read():
    folder = fairquant.run(write_recipe(method="gptq-ptq")).folder
    assert read_report(folder / "report.json")["method"] == "gptq-ptq"
