"""What is reduced from a layer's inputs and derivatives is what its gradients give."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair import reductions
from fairquant_fair.reductions import Products, SquaredNorms
from torch import nn

from fairquant.bits import find_layers
from fairquant.bits.products import Product
from fairquant.bits.products import Products as WatchedProducts

SIZE = 5
#: Layers and the shape of one image's input: few and many positions, strides, dilation, groups, padding, tokens.
LAYERS = {
    "one by one": (nn.Conv2d(6, 4, 1), (6, 3, 3)), "padded": (nn.Conv2d(3, 8, 3, padding=1), (3, 9, 9)),
    "strided": (nn.Conv2d(3, 8, 3, stride=2), (3, 9, 9)), "dilated": (nn.Conv2d(3, 4, 2, dilation=2), (3, 7, 7)),
    "grouped": (nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6)), "circular": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (3, 5, 5)),
    "same": (nn.Conv2d(3, 4, 4, padding="same"), (3, 6, 6)), "signal": (nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2), (3, 12)),
    "linear": (nn.Linear(7, 5), (7,)), "tokens": (nn.Linear(7, 5), (11, 7)),
}  # fmt: skip


def call_of(kind: str) -> tuple[Product, torch.Tensor, torch.Tensor]:
    """A layer's product with its inputs, derivatives at its output, and each image's gradient [SIZE, *weight.shape] by autograd."""
    module, shape = LAYERS[kind]
    module = module.double()
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(SIZE, *shape, generator=draw, dtype=torch.double)
    seen = []
    with WatchedProducts(find_layers(nn.Sequential(module), "channel"), seen.append):
        outputs = module(inputs)
    derivatives = torch.randn(outputs.shape, generator=draw, dtype=torch.double)
    gradients = [
        torch.autograd.grad(module(inputs[row : row + 1]), module.weight, derivatives[row : row + 1])[0]
        for row in range(SIZE)
    ]
    return seen[0], derivatives, torch.stack(gradients)


@pytest.mark.parametrize("chunk", [1, 1 << 21])
@pytest.mark.parametrize("kind", LAYERS)
def test_squared_norms_are_those_of_the_gradients_in_one_chunk_or_many(monkeypatch, kind, chunk):
    monkeypatch.setattr(reductions, "CHUNK_SIZE", chunk)
    product, derivatives, gradients = call_of(kind)
    expected = torch.stack([SquaredNorms().of_gradient(gradient) for gradient in gradients])
    torch.testing.assert_close(SquaredNorms().of_calls([(product, derivatives)], SIZE).detach(), expected)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("kind", LAYERS)
def test_products_with_changes_are_those_of_the_gradients_either_way(monkeypatch, kind, few):
    monkeypatch.setattr(reductions, "FEW_POSITIONS", few)
    product, derivatives, gradients = call_of(kind)
    changes = torch.randn(3, *product.weight.shape, dtype=torch.double)
    expected = torch.stack([Products(changes).of_gradient(gradient) for gradient in gradients])
    torch.testing.assert_close(Products(changes).of_calls([(product, derivatives)], SIZE).detach(), expected)


def test_a_layer_called_twice_adds_its_gradients():
    product, derivatives, gradients = call_of("tokens")
    call = product, derivatives
    expected = torch.stack([SquaredNorms().of_gradient(2 * gradient) for gradient in gradients])
    torch.testing.assert_close(SquaredNorms().of_calls([call, call], SIZE).detach(), expected)


def test_squared_norms_are_never_below_0_where_the_sum_over_positions_cancels():
    torch.manual_seed(0)
    inputs = torch.randn(64, 1, 200, 6)
    inputs = inputs - inputs.mean(-1, keepdim=True)
    derivatives = torch.ones(64, 1, 300, 6) * torch.randn(64, 1, 300, 1)
    squared = reductions._squared_rows(inputs, derivatives, (0,))
    assert bool((squared >= 0).all())
    assert float(squared.max()) < 1e-4 * float(inputs.square().sum((2, 3)).max())
