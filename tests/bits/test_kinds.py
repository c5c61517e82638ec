"""Every kind of weight is quantized, stored, read back and exported, and takes part in importance and in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
from fairquant_fair.runner import Runner
from fairquant_paper.importance import Gradient
from fairquant_rivals.hawq import Hawq
from helpers.importance import brute_force, brute_force_errors, cut, some_errors
from helpers.kinds import KINDS, Raw, Recurrent, Signal, Standardized, Transposed, Twice, Words
from helpers.models import Triples

import fairquant
from fairquant.artifact.load import read_artifact
from fairquant.bits import find_layers, plan_of
from fairquant.bits.costs import count_operations
from fairquant.bits.layers import float_weights
from fairquant.bits.multiplications import count_multiplications
from fairquant.errors import UserError
from fairquant.roles import Batch

GROUPS = ("a", "b", "c")


def layers_of(network, unit="channel"):
    kind = next(network.parameters()).dtype
    return find_layers(
        network, unit, (), count_multiplications(network, torch.rand(1, 3, 16, 16, dtype=kind))[0].keys()
    )


def images(count=14):
    draw = torch.Generator().manual_seed(7)
    pictures = torch.randn(count, 3, 16, 16, generator=draw, dtype=torch.float64)
    return Batch(pictures, torch.randint(3, (count,), generator=draw), torch.arange(count) % 3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_layers_of_a_network_are_all_its_weights(kind):
    names, in_float = KINDS[kind]
    network = kind()
    assert [layer.name for layer in layers_of(network)] == names
    assert float_weights(network, layers_of(network)) == in_float


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("method", ["fq-baq-ptq", "fq-baq"])
def test_a_network_of_every_kind_goes_through_to_its_artifact(kind, method):
    torch.manual_seed(1)
    network = kind()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    result = fairquant.quantize(
        network, Triples(60, 1, classes=3, size=16), Triples(30, 2, classes=3, size=16), Triples(30, 3, classes=3, size=16),
        average_bits=3, method=method, overrides=["train.epochs=1", "tracking.mlflow=null", "activations.bits=8"],
    )  # fmt: skip
    names, in_float = KINDS[kind]
    assert list(read_artifact(result.folder / "model.safetensors").weights) == names
    assert result.report["bits"]["average"] <= 3
    assert result.report["bits"]["in_float"] == in_float
    pictures = torch.stack([Triples(30, 3, classes=3, size=16)[n][0] for n in range(30)])
    with torch.no_grad():
        logits = fairquant.load(result.folder / "model.safetensors", model=kind())(pictures)
    np.testing.assert_allclose(
        logits.numpy(), np.load(result.folder / "predictions.npz")["logits"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_fisher_of_every_kind_equals_brute_force(kind):
    torch.manual_seed(2)
    network, batch = kind().double(), images()
    layers = layers_of(network)
    used = [layer for layer in layers if layer.name != "idle"]
    measured = Fisher().measure(network, cut(batch, 5, 1, 8), layers, GROUPS).scores
    for name, expected in brute_force(network, batch, used, "fisher").items():
        torch.testing.assert_close(measured[name], expected, rtol=1e-6, atol=1e-18)
    errors = some_errors(layers)
    of_errors = BlockFisher().group_errors(network, cut(batch, 5, 1, 8), layers, GROUPS, errors)
    for name, expected in brute_force_errors(network, batch, used, errors).items():
        torch.testing.assert_close(of_errors[name], expected, rtol=1e-6, atol=1e-18)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("importance", [Gradient(), Runner(), Hawq(samples=1)], ids=lambda each: type(each).__name__)
def test_a_weight_that_is_not_used_has_no_importance(kind, importance):
    torch.manual_seed(3)
    network = kind().double()
    if kind is Recurrent and isinstance(importance, Hawq):
        pytest.skip("torch has no second derivative of a GRU")
    scores = importance.measure(network, [images()], layers_of(network), GROUPS).scores
    assert all(torch.isfinite(each).all() for each in scores.values())
    assert all((each > 0).any() == (name != "idle") for name, each in scores.items())


@pytest.mark.parametrize(("kind", "positions", "other"), [
    (Signal, {"one": 254, "two": 252, "head": 1}, 0),
    (Transposed, {"down": 49, "up": 49, "wide": 81, "head": 1}, 0),
    (Raw, {"hidden": 1, "out": 1}, 0),
    (Standardized, {"conv": 196, "head": 1}, 0),
])  # fmt: skip
def test_operations_are_counted_of_every_kind(kind, positions, other):
    network = kind()
    counted = count_operations(network, layers_of(network), torch.rand(1, 3, 16, 16))
    assert counted.positions == positions
    assert counted.other == other


@pytest.mark.parametrize(("kind", "name"), [(Words, "table"), (Twice, "idle")])
def test_a_budget_of_operations_refuses_layers_of_which_none_can_be_counted(kind, name):
    network = kind()
    operations = count_operations(network, layers_of(network), torch.rand(1, 3, 16, 16))
    with pytest.raises(UserError, match=f"budget.bops: no multiplication by {name}"):
        operations.cost_model(1e9, {})


def test_a_weight_of_which_a_part_is_used_again_counts_as_often_as_it_is_used():
    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.head = torch.nn.Parameter(torch.randn(48, 8)), torch.nn.Linear(8, 3)
            self.none, self.empty = torch.nn.Parameter(torch.zeros(0, 4)), torch.nn.Linear(0, 4)

        def forward(self, pictures):
            x = torch.nn.functional.avg_pool2d(pictures, 4).flatten(1)
            return self.head(x @ self.w + x[:, :24] @ self.w[:24])

    network = Part()
    layers = layers_of(network)
    assert [layer.name for layer in layers] == ["w", "head"]
    operations = count_operations(network, layers, torch.rand(1, 3, 16, 16))
    assert operations.positions == {"w": 1.5, "head": 1}
    assert operations.full(plan_of(layers, torch.full((51,), 2))) == (48 * 8 * 1.5 + 24) * 32 * 32
