"""Fisher information and its blocks equal brute force, and foresee what quantization costs."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
from helpers.importance import (
    GROUPS,
    brute_force_errors,
    cut,
    data,
    some_errors,
)
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.roles import Batch


def test_fisher_of_predicted_labels_is_the_hessian_where_the_model_is_linear():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    batch, layers = data(), find_layers(model, "channel")
    measured = Fisher(labels="predicted", classes=3).measure(model, cut(batch, 5, 1, 8), layers, GROUPS).scores["1"]
    inputs, fractions = batch.images.flatten(1), model(batch.images).softmax(1).detach()
    hessian = (fractions * (1 - fractions)) * inputs.square().sum(1, keepdim=True)  # summed over each row of the weight
    for group in range(3):
        torch.testing.assert_close(measured[group], hessian[batch.groups == group].mean(0))
    fewer = Fisher(labels="predicted", classes=2).measure(model, cut(batch, 14), layers, GROUPS).scores["1"]
    assert (fewer <= measured + 1e-12).all()
    assert (fewer < measured - 1e-6).any()


@pytest.mark.parametrize("unit", ["channel", "tensor"])
def test_block_fisher_equals_brute_force(strange, unit):
    model, batch = strange.double(), data()
    layers = find_layers(model, unit)
    errors = some_errors(layers)
    measured = BlockFisher().group_errors(model, cut(batch, 5, 1, 8), layers, GROUPS, errors)
    for name, expected in brute_force_errors(model, batch, layers, errors).items():
        torch.testing.assert_close(measured[name], expected, rtol=1e-9, atol=1e-18)


def test_block_fisher_of_predicted_labels_is_the_second_order_loss_where_the_model_is_linear():
    """Row by row e^T H e with the exact Hessian, which the diagonal of `fisher` only has for errors without relation."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    batch, layers = data(), find_layers(model, "channel")
    errors = some_errors(layers)
    every = BlockFisher(labels="predicted", classes=3)
    measured = every.group_errors(model, cut(batch, 5, 1, 8), layers, GROUPS, errors)["1"]
    inputs, fractions = batch.images.flatten(1), model(batch.images).softmax(1).detach()
    answers = torch.einsum("bn,kon->bok", inputs, errors["1"])
    exact = (fractions * (1 - fractions))[:, :, None] * answers.square()
    for group in range(3):
        torch.testing.assert_close(measured[group], exact[batch.groups == group].mean(0))


def test_block_fisher_foresees_what_a_pruned_channel_costs_better_than_fisher():
    """Each channel of a trained network pruned alone: the measured divergence of the answers from before, and what the
    two say of it. The error of a pruned channel is the channel: nothing in it is unrelated."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(32, 3)).double()  # fmt: skip
    draw = torch.Generator().manual_seed(4)
    groups, labels = torch.zeros(192, dtype=torch.int64), torch.randint(3, (192,), generator=draw)
    images = torch.randn(192, 3, 8, 8, generator=draw, dtype=torch.float64) + 0.3 * labels.view(-1, 1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    layers = find_layers(model, "channel")
    errors = {layer.name: -layer.weight.detach()[None] for layer in layers}
    batch = Batch(images, labels, groups)
    importance = BlockFisher(labels="predicted", classes=3)
    block = torch.cat([t[0, :, 0] for t in importance.group_errors(model, [batch], layers, ("a",), errors).values()])
    scores = importance.measure(model, [batch], layers, ("a",)).scores
    diagonal = torch.cat([
        scores[layer.name][0] / layer.unit_size * layer.weight.detach().flatten(1).square().sum(1) for layer in layers
    ])  # fmt: skip
    before, costs = model(images).log_softmax(1).detach(), []
    with torch.no_grad():
        for layer in layers:
            for row in range(layer.rows):
                original = layer.weight[row].clone()
                layer.weight[row] = 0
                costs.append(F.kl_div(model(images).log_softmax(1), before, reduction="batchmean", log_target=True))
                layer.weight[row] = original
    measured = torch.stack(costs)

    def agreement(foreseen):
        ranks = torch.stack([foreseen.argsort().argsort(), measured.argsort().argsort()]).double()
        return float(torch.corrcoef(ranks)[0, 1])

    assert agreement(block) > agreement(diagonal) + 0.02
    assert agreement(block) > 0.9
