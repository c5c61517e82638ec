"""Importance equals a brute-force computation, does not depend on batching, and leaves the model alone."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.fisher import Fisher
from fairquant_paper.importance import Gradient, Grape
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.roles import Batch

GROUPS = ("a", "b", "c")


def data(count: int = 14, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=draw, dtype=torch.float64)
    return Batch(images, torch.randint(3, (count,), generator=draw), torch.randint(3, (count,), generator=draw))


def cut(batch: Batch, *sizes: int) -> list[Batch]:
    parts = zip(batch.images.split(sizes), batch.labels.split(sizes), batch.groups.split(sizes), strict=True)
    return [Batch(*part) for part in parts]


def brute_force(model, batch, layers, kind):
    """One image at a time, gradients by autograd of the weights themselves, float64."""
    model = model.eval()
    found = {}
    for layer in layers:
        weight = layer.modules[0].weight
        weight.requires_grad_(True)
        rows = []
        for group in range(3):
            per_sample = []
            for row in torch.where(batch.groups == group)[0]:
                loss = F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1])
                per_sample.append(torch.autograd.grad(loss, weight)[0])
            gradients = torch.stack(per_sample)
            mean = gradients.mean(0)
            value = {
                "fisher": gradients.square().mean(0), "gradient": mean.abs(), "grape": (mean * weight.detach()).square(),
            }[kind]  # fmt: skip
            rows.append(value.flatten(1).sum(1))
        stacked = torch.stack(rows)
        found[layer.name] = stacked.sum(1, keepdim=True) if layer.unit == "tensor" else stacked
    return found


@pytest.mark.parametrize("unit", ["channel", "tensor"])
@pytest.mark.parametrize(("importance", "kind"), [(Fisher(), "fisher"), (Gradient(), "gradient"), (Grape(), "grape")])
def test_importance_equals_brute_force(strange, importance, kind, unit):
    model, batch = strange.double(), data()
    layers = find_layers(model, unit)
    found = importance.measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, kind).items():
        torch.testing.assert_close(found.scores[name], expected, rtol=1e-9, atol=1e-18)


def test_fisher_of_convolutions_of_every_shape_equals_brute_force():
    """Few positions and many channels, many positions and few, strides, dilation, 1x1, rows and columns apart."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, (3, 2), padding=(1, 0)), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, stride=2), nn.Tanh(),
        nn.Conv2d(6, 24, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(24, 32, (1, 3), padding=(0, 1), groups=2),
        nn.Conv2d(32, 8, 1), nn.Conv2d(8, 8, 2, dilation=2), nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip
    batch = data()
    layers = find_layers(model, "channel")
    found = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(found.scores[name], expected, rtol=1e-9, atol=1e-18)


def test_fisher_of_predicted_labels_is_the_hessian_where_the_model_is_linear():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    batch, layers = data(), find_layers(model, "channel")
    found = Fisher(labels="predicted", classes=3).measure(model, cut(batch, 5, 1, 8), layers, GROUPS).scores["1"]
    inputs, shares = batch.images.flatten(1), model(batch.images).softmax(1).detach()
    hessian = (shares * (1 - shares)) * inputs.square().sum(1, keepdim=True)  # summed over each row of the weight
    for group in range(3):
        torch.testing.assert_close(found[group], hessian[batch.groups == group].mean(0))
    fewer = Fisher(labels="predicted", classes=2).measure(model, cut(batch, 14), layers, GROUPS).scores["1"]
    assert (fewer <= found + 1e-12).all()
    assert (fewer < found - 1e-6).any()


class Windows(nn.Module):
    """Windows as images of their own, image by image or window by window, and a sequence that comes first."""

    def __init__(self, image_major: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.image_major = image_major
        self.inside, self.along, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, images):
        parts = images.reshape(len(images), 2, 16, 6)  # two windows of 16 positions
        if not self.image_major:
            parts = parts.transpose(0, 1)
        seen = torch.tanh(self.inside(parts.reshape(-1, 16, 6))).reshape(*parts.shape[:2], 16, 5)
        if not self.image_major:
            seen = seen.transpose(0, 1)
        sequence = seen.flatten(1, 2).transpose(0, 1)  # [positions, images, 5]
        return self.head(torch.tanh(self.along(sequence)).mean(0))


@pytest.mark.parametrize("image_major", [True, False])
def test_fisher_tells_images_apart_whatever_axis_they_are_on(image_major):
    model, batch = Windows(image_major).double(), data()
    layers = find_layers(model, "channel")
    found = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(found.scores[name], expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("importance", [Fisher(), Fisher(labels="predicted"), Gradient(), Grape()])
def test_importance_does_not_depend_on_batching(strange, importance):
    model, batch = strange.double(), data(20)
    layers = find_layers(model, "channel")
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = Batch(batch.images[order], batch.labels[order], batch.groups[order])
    one = importance.measure(model, [batch], layers, GROUPS).table()
    for other in (cut(batch, 3, 3, 3, 3, 8), cut(shuffled, 7, 13)):
        torch.testing.assert_close(importance.measure(model, other, layers, GROUPS).table(), one, rtol=1e-9, atol=1e-18)


def test_the_papers_sum_over_batches_depends_on_batching_and_says_so(strange):
    model, batch = strange.double(), data(20)
    layers = find_layers(model, "channel")
    one = Gradient(over="batch").measure(model, [batch], layers, GROUPS).table()
    two = Gradient(over="batch").measure(model, cut(batch, 10, 10), layers, GROUPS).table()
    assert not torch.allclose(one, two)
    assert "batches matter" in Gradient(over="batch").exempt["batches_do_not_matter"]
    assert not Gradient().exempt


@pytest.mark.parametrize("importance", [Fisher(), Fisher(labels="predicted"), Gradient(), Grape(), Grape(over="batch")])
def test_the_model_is_left_as_it_was(strange, importance):
    model = strange.train()
    model.norm.eval()
    model.head.weight.grad = torch.full_like(model.head.weight, 7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    batch = data()
    importance.measure(
        model, [Batch(batch.images.float(), batch.labels, batch.groups)], find_layers(model, "channel"), GROUPS
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
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
