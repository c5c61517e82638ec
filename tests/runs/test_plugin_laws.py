"""An importance that breaks its laws is named before anything is made of what it returns."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from torch import nn

from fairquant.bits import find_layers
from fairquant.errors import PluginFailed
from fairquant.roles import Allocation, AllocationProblem, GroupImportance
from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer
from fairquant.runs.plugin_laws import allocated, check_quantizer, check_scores, leaves_alone, reduced
from fairquant.runs.process_state import ProcessState
from fairquant.testing import cases

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
LAYERS = find_layers(NETWORK, "channel", ())
GOOD = {layer.name: torch.ones(2, layer.units) for layer in LAYERS}


def scores(**changes: object) -> GroupImportance:
    return GroupImportance({**GOOD, **changes}, ("a", "b"))


BAD = [
    (None, "returned NoneType, a GroupImportance is wanted"),
    (GroupImportance(GOOD, ("a",)), "its groups are"),
    (GroupImportance({}, ("a", "b")), "no scores of layer '0'"),
    (scores(**{"0": torch.full((2, 4), torch.nan)}), "layer '0': 8 scores are NaN or infinite"),
    (scores(**{"0": torch.full((2, 4), -1.0)}), "layer '0': 8 scores are below 0"),
    (scores(**{"0": torch.ones(2, 5)}), r"layer '0': scores \(2, 5\), \(2, 4\) wanted"),
    (scores(**{"0": [1.0]}), "layer '0': scores list"),
]


@pytest.mark.parametrize(("found", "message"), BAD)
def test_scores_that_are_none_are_refused(found, message):
    with pytest.raises(PluginFailed, match=message):
        check_scores(found, LAYERS, ("a", "b"), "theirs")
    check_scores(scores(), LAYERS, ("a", "b"), "theirs")


def zero(network):
    with torch.no_grad():
        network[0].weight.zero_()


CHANGES = {
    "weights or buffers": zero,
    "requires_grad": lambda network: network[0].weight.requires_grad_(False),
    "gradients": lambda network: network(torch.ones(4, 3, 3, 3)).sum().backward(),
    "hooks": lambda network: network[0].register_forward_hook(lambda *given: None),
    "training mode": lambda network: network.train(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_is_left_changed_is_named(what):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).eval()
    with leaves_alone(network, "importance 'theirs'"):
        network(torch.ones(1, 3, 3, 3))

    def change() -> None:
        with leaves_alone(network, "importance 'theirs'"):
            CHANGES[what](network)

    with pytest.raises(PluginFailed, match=f"importance 'theirs' changed the model's .*{what}"):
        change()


SETTINGS = {
    "gradients": lambda: torch.set_grad_enabled(False), "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "autocast": lambda: torch.autocast("cpu").__enter__(), "device": lambda: torch.set_default_device("meta"),
    "dtype": lambda: torch.set_default_dtype(torch.float64), "folder": lambda: os.chdir("/"),
    "precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "standard output": lambda: setattr(sys, "stdout", None), "recursion limit": lambda: sys.setrecursionlimit(60),
    "alarm": lambda: signal.alarm(100),
}  # fmt: skip


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_of_the_process_are_set_again_and_named(what):
    state, before = ProcessState(), (Path.cwd(), sys.stdout, torch.zeros(1).device, torch.is_grad_enabled())
    assert state.undo() == ""
    SETTINGS[what]()
    assert state.undo() == f"changed settings of the process ({what})"
    assert torch.autocast_increment_nesting() == 1  # no context is left open
    torch.autocast_decrement_nesting()
    assert (Path.cwd(), sys.stdout, torch.zeros(1).device, torch.is_grad_enabled()) == before
    assert state.undo() == ""


def problem(average: float) -> AllocationProblem:
    return cases.problem(0, 6, (2, 4, 8), average)


def test_what_an_allocator_gives_is_checked_against_choices_and_budget():
    asked = problem(4.0)
    good = Allocation(torch.full((6,), 4))
    assert allocated(good, asked, "theirs") is good
    for found, message in (
        (None, "returned NoneType, an Allocation"), ("text", "returned str"), (Allocation([4] * 6), "with a tensor `bits`"),
        (Allocation(torch.full((5,), 4)), r"bits torch.int64 \(5,\), whole numbers \(6,\) wanted"),
        (Allocation(torch.full((6,), 4.0)), "bits torch.float32"),
        (Allocation(torch.full((6,), 3)), "gave 6 units bits that are none of their choices"),
        (Allocation(torch.full((6,), 8)), "exceeds the budget: its plan costs"),
    ):  # fmt: skip
        with pytest.raises(PluginFailed, match=message):
            allocated(found, asked, "theirs")


def test_what_a_reducer_gives_is_one_finite_number_for_each_unit():
    assert len(reduced(torch.ones(4), 4, "theirs")) == 4
    for found, message in (
        (None, "returned NoneType"), (torch.ones(2, 4), r"returned \(2, 4\), \(4,\) wanted"),
        (torch.full((4,), torch.nan), "NaN or infinite"), (torch.ones(4, dtype=torch.complex64), "complex"),
    ):  # fmt: skip
        with pytest.raises(PluginFailed, match=message):
            reduced(found, 4, "theirs")


class Odd(WeightQuantizer):
    """Stores something else than its forward pass gives, or nothing."""

    def __init__(self, bits: torch.Tensor, stored: object, shift: float = 0.0) -> None:
        super().__init__(bits)
        self.stored, self.shift = stored, shift

    def forward(self, weight):
        return weight + self.shift

    def encode(self, weight):
        return self.stored


@dataclass(frozen=True)
class Builds:
    made: Callable[[torch.Tensor], object]

    def build(self, weight, bits, choices):
        return self.made(bits)


def test_a_quantizer_that_stores_something_else_is_named():
    layer = min(LAYERS, key=lambda each: each.weight.numel())
    shape = layer.weight.shape
    zeros = QuantizedWeight(
        codes=torch.zeros(shape, dtype=torch.int8).flatten(1), bits=torch.full((shape[0],), 2), scale=torch.ones(shape[0]),
        shape=tuple(shape),
    )  # fmt: skip
    for made, message in (
        (lambda bits: None, "returned NoneType, a WeightQuantizer"), (lambda bits: Odd(bits, None), "returned NoneType, a Quant"),
        (lambda bits: Odd(bits, zeros), "is not what forward"), (lambda bits: Odd(bits, zeros, float("nan")), "NaN or infinite"),
    ):  # fmt: skip
        with pytest.raises(PluginFailed, match=message):
            check_quantizer(Builds(made), LAYERS, (2, 4), "theirs")


def test_a_quantizer_that_changes_the_weight_is_named():
    def zeroes(weight, bits, choices):
        weight.zero_()
        return Uniform().build(weight, bits, choices)

    quantizer = Builds(lambda bits: None)
    object.__setattr__(quantizer, "build", zeroes)
    layers = find_layers(nn.Sequential(nn.Linear(3, 4)), "channel")
    with pytest.raises(PluginFailed, match="wrote into the weight of layer '0'"):
        check_quantizer(quantizer, layers, (2, 4), "theirs")


@pytest.mark.parametrize("gradient", ["step", "fractional"])
def test_bits_that_are_learned_may_lie_between_two_widths(gradient):
    check_quantizer(Baq(gradient), LAYERS, (2, 4, 8), "baq")


def test_scores_that_belong_to_a_graph_or_are_complex_are_refused():
    for changed, message in (
        (torch.ones(2, 4, requires_grad=True), "requires_grad"), (torch.ones(2, 4, dtype=torch.complex64), "complex"),
    ):  # fmt: skip
        with pytest.raises(PluginFailed, match=message):
            check_scores(scores(**{"0": changed}), LAYERS, ("a", "b"), "theirs")
