"""What holds for every importance: equal to brute force, whatever the batches, the model left as it was."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
from fairquant_fair.runner import Runner
from fairquant_paper.importance import Gradient, Grape
from fairquant_rivals.hawq import Hawq
from helpers.elsewhere import accelerator, back, moved
from helpers.importance import (
    GROUPS,
    brute_force,
    cut,
    data,
)
from helpers.rounding import batches
from helpers.training import small_network

from fairquant.bits import find_layers
from fairquant.roles import Batch


@pytest.mark.parametrize("importance", [Fisher(), Fisher(labels="predicted"), Gradient(), Grape()])
def test_importance_does_not_depend_on_batching(strange, importance):
    model, batch = strange.double(), data(20)
    layers = find_layers(model, "channel")
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = Batch(batch.images[order], batch.labels[order], batch.groups[order])
    one = importance.measure(model, [batch], layers, GROUPS).table()
    for other in (cut(batch, 3, 3, 3, 3, 8), cut(shuffled, 7, 13)):
        torch.testing.assert_close(importance.measure(model, other, layers, GROUPS).table(), one, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("importance", [Fisher(), Fisher(labels="predicted"), Gradient(), Grape(), Grape(over="batch")])
def test_the_model_is_left_as_it_was(strange, importance):
    model = strange.train()
    model.norm.eval()
    model.head.weight.grad = torch.full_like(model.head.weight, 7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    required = [parameter.requires_grad for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    batch = data()
    importance.measure(
        model, [Batch(batch.images.float(), batch.labels, batch.groups)], find_layers(model, "channel"), GROUPS
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == required
    assert torch.equal(model.head.weight.grad, torch.full_like(model.head.weight, 7))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "head.weight")
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_group_without_images_scores_zero(strange):
    model, batch = strange.double(), data()
    layers = find_layers(model, "channel")
    alone = Batch(batch.images, batch.labels, torch.zeros_like(batch.groups))
    for importance in (Fisher(), Gradient(), Grape()):
        table = importance.measure(model, [alone], layers, GROUPS).table()
        assert table[0].sum() > 0
        assert (table[1:] == 0).all()


@pytest.mark.parametrize("unit", ["channel", "tensor"])
@pytest.mark.parametrize(("importance", "kind"), [(Fisher(), "fisher"), (Gradient(), "gradient"), (Grape(), "grape")])
def test_importance_equals_brute_force(strange, importance, kind, unit):
    model, batch = strange.double(), data()
    layers = find_layers(model, unit)
    measured = importance.measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, kind).items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("importance", [Fisher(), BlockFisher(), Gradient(), Grape(), Runner(), Hawq()], ids=str)
def test_importance_on_an_accelerator_is_that_of_the_cpu(importance):
    here, there = small_network().eval(), moved(small_network().eval())
    expected = importance.measure(here, batches(), find_layers(here, "channel"), ("a", "b")).table()
    with accelerator():
        seen = [moved(batch) for batch in batches()]
        found = importance.measure(there, seen, find_layers(there, "channel"), ("a", "b")).table()
    torch.testing.assert_close(back(found), expected)
