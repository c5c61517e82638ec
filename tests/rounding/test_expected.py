"""What the layers see is gathered on the way of passes that happen anyway, and is the same as in a pass of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
from fairquant_paper.importance import Gradient
from torch import nn

from fairquant.bits import find_layers
from fairquant.roles import Batch, GroupImportance
from fairquant.rounding.expected import InputMoments

NAMES = ("a", "b")


class Attends(nn.Module):
    """torch's attention on as many tokens as a batch has images; also a convolution of several groups."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        tokens = self.first(images).flatten(2).permute(2, 0, 1)
        return self.head((tokens + self.attention(tokens, tokens, tokens)[0]).mean(0))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


@pytest.fixture(params=[convolutions, Attends])
def network(request):
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture
def stream():
    draw = torch.Generator().manual_seed(1)
    labels, groups = torch.arange(40) % 3, torch.arange(40) // 2 % 3 % 2
    images = torch.randn(40, 3, 16, 16, generator=draw)
    return [Batch(images[n : n + 16], labels[n : n + 16], groups[n : n + 16]) for n in (0, 16, 32)]


def pulled_once(stream):
    """An iterable that must not be read."""
    raise AssertionError("a pass of its own")
    yield from stream


class OfACopy:
    def measure(self, model, batches, layers, group_names):
        own = copy.deepcopy(model)
        for batch in batches:
            own(batch.images)
        return GroupImportance({}, group_names)


class WithOtherWeights:
    def measure(self, model, batches, layers, group_names):
        other = {name: value + 1 for name, value in model.named_parameters()}
        for batch in batches:
            torch.func.functional_call(model, other, (batch.images,))
        return GroupImportance({}, group_names)


class ChangesWeights:
    def measure(self, model, batches, layers, group_names):
        for batch in batches:
            for layer in layers:
                before = layer.weight.detach().clone()
                with torch.no_grad():
                    layer.weight.add_(0.1)
                    model(batch.images)
                    layer.weight.copy_(before)
        return GroupImportance({}, group_names)


class Trains:
    def measure(self, model, batches, layers, group_names):
        for batch in batches:
            model.train()(batch.images)
        model.eval()
        return GroupImportance({}, group_names)


class SkipsOne:
    def measure(self, model, batches, layers, group_names):
        for number, batch in enumerate(batches):
            if number != 1:
                model(batch.images)
                model(batch.images)
        return GroupImportance({}, group_names)


@pytest.mark.parametrize("importance", [Fisher(), Fisher("predicted", 2), BlockFisher()], ids=str)
def test_a_pass_that_happens_anyway_is_enough(network, stream, importance):
    layers = find_layers(network, "channel")
    expected = InputMoments(network, layers).result(stream)
    assert len(expected) == len(layers)
    inputs = InputMoments(network, layers)
    with inputs.watching(stream) as batches:
        found = importance.measure(network, batches, layers, NAMES)
    alone = importance.measure(network, stream, layers, NAMES)
    assert all(torch.equal(found.scores[name], alone.scores[name]) for name in alone.scores)
    moments = inputs.result(pulled_once(stream))
    for name, each in expected.items():
        assert torch.allclose(moments[name], each, rtol=1e-5, atol=1e-7), name
    assert not network._forward_hooks
    assert not network._forward_pre_hooks


@pytest.mark.parametrize(
    "importance",
    [Gradient(), OfACopy(), WithOtherWeights(), ChangesWeights(), Trains(), SkipsOne()],
    ids=lambda each: type(each).__name__,
)
def test_batches_that_went_another_way_are_passed_once_more(network, stream, importance):
    layers = find_layers(network, "channel")
    expected = InputMoments(network, layers).result(stream)
    inputs = InputMoments(network, layers)
    with inputs.watching(stream) as batches:
        importance.measure(network, batches, layers, NAMES)
    moments = inputs.result(stream)
    for name, each in expected.items():
        assert torch.allclose(moments[name], each, rtol=1e-5, atol=1e-7), name
