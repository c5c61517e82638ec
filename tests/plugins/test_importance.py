"""Importance equals a brute-force computation, does not depend on batching, and leaves the model alone."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
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
    return [Batch(*tensor) for tensor in parts]


def gradients_of_images(model, batch, layer):
    """The weight's gradient of one image at a time by autograd, float64: one tensor [N_g, ...] for each group."""
    weight = layer.modules[0].weight
    weight.requires_grad_(True)
    gradients = []
    for group in range(3):
        rows = torch.where(batch.groups == group)[0]
        losses = [F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1]) for row in rows]
        gradients.append(torch.stack([torch.autograd.grad(loss, weight)[0] for loss in losses]))
    return gradients


def brute_force(model, batch, layers, kind):
    model = model.eval()
    scores_by_layer = {}
    for layer in layers:
        rows = []
        for gradients in gradients_of_images(model, batch, layer):
            mean = gradients.mean(0)
            value = {
                "fisher": gradients.square().mean(0),
                "gradient": mean.abs(),
                "grape": (mean * layer.weight.detach()).square(),
            }[kind]
            rows.append(value.flatten(1).sum(1))
        stacked = torch.stack(rows)
        scores_by_layer[layer.name] = stacked.sum(1, keepdim=True) if layer.unit == "tensor" else stacked
    return scores_by_layer


@pytest.mark.parametrize("unit", ["channel", "tensor"])
@pytest.mark.parametrize(("importance", "kind"), [(Fisher(), "fisher"), (Gradient(), "gradient"), (Grape(), "grape")])
def test_importance_equals_brute_force(strange, importance, kind, unit):
    model, batch = strange.double(), data()
    layers = find_layers(model, unit)
    measured = importance.measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, kind).items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, (3, 2), padding=(1, 0)), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, stride=2), nn.Tanh(),
        nn.Conv2d(6, 24, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(24, 32, (1, 3), padding=(0, 1), groups=2),
        nn.Conv2d(32, 8, 1), nn.Conv2d(8, 8, 2, dilation=2), nn.Flatten(), nn.Linear(8, 3),
    ).double()  # fmt: skip


def test_fisher_of_convolutions_of_every_shape_equals_brute_force():
    """Few positions and many channels, many positions and few, strides, dilation, 1x1, rows and columns apart."""
    model, batch = convolutions(), data()
    layers = find_layers(model, "channel")
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


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
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


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


def some_errors(layers, widths=3):
    draw = torch.Generator().manual_seed(5)
    return {
        layer.name: torch.randn(widths, *layer.weight.shape, generator=draw, dtype=torch.float64) for layer in layers
    }


def brute_force_errors(model, batch, layers, errors):
    """The gradients' products with the errors of each width, squared, averaged over a group's images."""
    model = model.eval()
    errors_by_layer = {}
    for layer in layers:
        rows = []
        for gradients in gradients_of_images(model, batch, layer):
            products = (gradients[:, None] * errors[layer.name]).flatten(3).sum(3)  # [N_g, K, out]
            whole = products.sum(2, keepdim=True) if layer.unit == "tensor" else products
            rows.append(whole.square().mean(0).T)
        errors_by_layer[layer.name] = torch.stack(rows)
    return errors_by_layer


@pytest.mark.parametrize("unit", ["channel", "tensor"])
def test_block_fisher_equals_brute_force(strange, unit):
    model, batch = strange.double(), data()
    layers = find_layers(model, unit)
    errors = some_errors(layers)
    measured = BlockFisher().group_errors(model, cut(batch, 5, 1, 8), layers, GROUPS, errors)
    for name, expected in brute_force_errors(model, batch, layers, errors).items():
        torch.testing.assert_close(measured[name], expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("image_major", [True, False])
def test_block_fisher_tells_images_apart_whatever_axis_they_are_on(image_major):
    model, batch = Windows(image_major).double(), data()
    layers = find_layers(model, "channel")
    errors = some_errors(layers)
    measured = BlockFisher().group_errors(model, cut(batch, 5, 1, 8), layers, GROUPS, errors)
    for name, expected in brute_force_errors(model, batch, layers, errors).items():
        torch.testing.assert_close(measured[name], expected, rtol=1e-9, atol=1e-18)


def test_block_fisher_of_convolutions_of_every_shape_equals_brute_force():
    model, batch = convolutions(), data()
    layers = find_layers(model, "channel")
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
