"""Squared gradients at the outputs of layers and blocks."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from fairquant_fair.block_rounding import Block
from fairquant_fair.fair_gptq import FairGptq
from helpers.rounding import batches, rounder
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.errors import UserError
from fairquant.rounding.blocks import find_blocks
from fairquant.rounding.guidance import FLOOR, guide


class FirstToken(nn.Module):
    """Tokens that meet in attention once; the answer is that of the first, as a transformer's class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = nn.Conv2d(3, 8, 4, 4, bias=False), nn.Linear(16, 16)
        self.last, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = x + F.gelu(self.mix(x.transpose(1, 2))).transpose(1, 2)
        return self.head((x + F.gelu(self.last(x)))[:, 0])


def test_gradients_are_the_square_of_those_by_hand_relative_to_their_mean():
    torch.manual_seed(0)
    network = FirstToken().eval()
    layers, stream = find_layers(network, "channel"), batches(2)
    found = guide(network, layers, (), stream).positions
    names = {layer.name: number for number, layer in enumerate(layers)}
    assert set(found) == {(number, batch) for number in range(4) for batch in range(2)}
    last = torch.stack([found[names["last"], batch] for batch in range(2)])
    assert last.shape == (2, 8, 16)
    assert torch.allclose(last[:, :, 1:], torch.full((), FLOOR))  # no other token matters
    assert float(last.mean()) == pytest.approx(1.0, rel=1e-4)
    kept, gradients, draw = {}, [], torch.Generator().manual_seed(0)
    network.patch.register_forward_hook(lambda module, inputs, output: kept.update(output=output))
    for batch in stream:
        logits = network(batch.images)
        labels = torch.multinomial(logits.softmax(1).double(), 1, generator=draw)[:, 0]
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), kept["output"])
        gradients.append(gradient.square().mean(1).flatten(1))
    mean = torch.stack(gradients).mean()
    for batch in range(2):
        expected = (1 - FLOOR) * gradients[batch] / mean + FLOOR
        assert torch.allclose(found[names["patch"], batch], expected, rtol=1e-3)


def test_a_block_s_elements_are_weighted_and_nothing_is_left_behind():
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3).eval()
    layers = find_layers(network, "channel")
    blocks = find_blocks(network, layers)
    before = copy.deepcopy(network.state_dict())
    found = guide(network, layers, blocks, batches(2, pixels=32)).elements
    assert set(found) == {0, 1}
    tokens = found[1].view(5, 192).mean(1)
    assert tokens[0] > 20 * tokens[1:].max()  # the class token alone is read behind the last block
    assert float(found[0].mean()) == pytest.approx(1.0, rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_switches_gradients_off_cannot_guide():
    class Off(FirstToken):
        @torch.no_grad()
        def forward(self, images):
            return super().forward(images)

    network = Off().eval()
    with pytest.raises(UserError, match="rounding.gradients: the network's forward pass switches gradients off"):
        guide(network, find_layers(network, "channel"), (), batches(1))


@pytest.mark.parametrize(
    "rounding", [FairGptq(rounds=1, gradients=True), Block(steps=6, gradients=True)], ids=["fair-gptq", "block"]
)
def test_a_rounding_that_asks_for_gradients_gets_them_and_needs_no_labels(rounding):
    results = []
    for labels in (0, 2):
        torch.manual_seed(0)
        network = FirstToken().eval()
        stream = [
            batch.__class__(batch.images, torch.full_like(batch.labels, labels), batch.groups) for batch in batches()
        ]
        found = rounder(network, rounding, 2).round(stream)
        results.append(torch.cat([each.weight.codes.flatten() for each in found.values()]))
    assert "gradients" in rounding.needs
    assert torch.equal(*results)
    torch.manual_seed(0)
    other = rounder(FirstToken().eval(), rounding.__class__(**{**rounding.__dict__, "gradients": False}), 2).round(
        batches()
    )
    assert not torch.equal(results[0], torch.cat([each.weight.codes.flatten() for each in other.values()]))
