"""HAWQ: the diagonal of the Hessian."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.runner import Runner
from fairquant_rivals.hawq import Hawq
from helpers.importance import Tiny, data
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.roles import Batch


def test_hawq_agrees_with_the_exact_diagonal_of_the_hessian():
    model, batch = Tiny().double(), data(30, groups=2)
    layers = find_layers(model, "channel")
    diagonals = Hawq(samples=3_000).diagonals(model, [batch], layers, 2)
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
    for group in range(2):
        rows = batch.groups == group

        def loss(flat, rows=rows):
            parts = flat.split([layer.weight.numel() for layer in layers])
            given = {f"{layer.name}.weight": p.view_as(layer.weight) for layer, p in zip(layers, parts, strict=True)}
            return F.cross_entropy(torch.func.functional_call(model, given, (batch.images[rows],)), batch.labels[rows])

        hessian = torch.autograd.functional.hessian(loss, weights)
        estimate = torch.cat([diagonal[group].flatten() for diagonal in diagonals])
        noise = hessian.square().sum(1).sqrt() / 3_000**0.5  # standard deviation of the estimator
        assert ((estimate - hessian.diagonal()).abs() <= 5 * noise + 1e-12).all()
        assert torch.corrcoef(torch.stack([estimate, hessian.diagonal()]))[0, 1] > 0.99


@pytest.mark.parametrize("importance", [Hawq(samples=2), Runner()], ids=str)
def test_batching_does_not_matter_and_the_model_is_left_alone(importance, strange):
    model, batch = strange.double(), data(14, groups=2)
    layers = find_layers(model, "channel")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    one = importance.measure(model, [batch], layers, ("a", "b")).table()
    parts = [
        Batch(*tensor)
        for tensor in zip(*(t.split((5, 1, 8)) for t in (batch.images, batch.labels, batch.groups)), strict=True)
    ]
    torch.testing.assert_close(importance.measure(model, parts, layers, ("a", "b")).table(), one, rtol=1e-8, atol=1e-18)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in model.parameters())
