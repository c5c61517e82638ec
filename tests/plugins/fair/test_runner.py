"""runner: the gradient of the fairness gap."""

from __future__ import annotations

import torch
from fairquant_fair.runner import Runner
from helpers.importance import Tiny, data
from torch.nn import functional as F

from fairquant.bits import find_layers


def test_runner_is_the_gradient_of_the_gap():
    model, batch = Tiny().double(), data(30, groups=2)
    layers = find_layers(model, "channel")
    measured = Runner().measure(model, [batch], layers, ("a", "b"))
    losses = torch.stack([
        F.cross_entropy(model(batch.images[batch.groups == g]), batch.labels[batch.groups == g]) for g in range(2)
    ])  # fmt: skip
    slopes = torch.autograd.grad(losses.max() - losses.min(), [layer.weight for layer in layers])
    for layer, slope in zip(layers, slopes, strict=True):
        expected = (slope * layer.weight.detach()).square().sum(1)
        torch.testing.assert_close(measured.scores[layer.name], expected.expand(2, -1))
