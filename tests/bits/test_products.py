"""What a layer's rows are multiplied with, at every place or at some."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.bits import find_layers
from fairquant.bits.products import Product, Products, find_sequence_first
from fairquant.rounding.moments import PLACES, InputSums

IMAGES = 5
LAYERS = {
    "strided": (nn.Conv2d(3, 8, 3, stride=(2, 1), padding=1), (3, 9, 8)), "same": (nn.Conv2d(3, 4, 4, padding="same"), (3, 6, 6)),
    "dilated": (nn.Conv2d(3, 4, (2, 3), dilation=(2, 1)), (3, 7, 7)), "grouped": (nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 6, 6)), "signal": (nn.Conv1d(4, 6, 3, 2, 1, 2, 2), (4, 12)),
    "vector": (nn.Linear(7, 5), (7,)), "tokens": (nn.Linear(7, 5), (11, 7)), "maps": (nn.Linear(7, 5), (3, 4, 7)),
}  # fmt: skip


def product_of(kind: str) -> tuple[Product, nn.Module, torch.Tensor]:
    """A layer's product, the layer, and its output."""
    torch.manual_seed(0)
    module, shape = LAYERS[kind]
    seen: list[Product] = []
    with Products(find_layers(nn.Sequential(module), "channel"), seen.append), torch.no_grad():
        output = module(torch.randn(IMAGES, *shape))
    return seen[0], module, output


@pytest.mark.parametrize("kind", LAYERS)
def test_rows_times_columns_are_the_layers_output(kind):
    product, module, output = product_of(kind)
    columns = product.columns(IMAGES)
    assert product.places(IMAGES) == columns.shape[1]
    rows = module.weight.detach().flatten(1).view(columns.shape[2], -1, columns.shape[3])
    found = torch.einsum("bpsn,srn->bpsr", columns, rows).flatten(2) + module.bias.detach()
    expected = output.flatten(2).transpose(1, 2) if product.spatial else output.reshape(found.shape)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_chosen_places_are_those_of_all(kind):
    product, _, _ = product_of(kind)
    places = product.places(IMAGES)
    chosen = torch.randperm(places)[: max(1, places // 2)]
    torch.testing.assert_close(product.columns(IMAGES, chosen), product.columns(IMAGES)[:, chosen], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["strided", "tokens", "maps"])
def test_inputs_that_cannot_be_separated_by_image_have_no_columns(kind):
    product, _, _ = product_of(kind)
    images = IMAGES + 2 if kind != "tokens" else 4
    assert product.places(images) is None
    assert product.columns(images) is None
    assert not InputSums(1).add(product, torch.zeros(images, dtype=torch.int64))


def test_moments_of_many_places_are_about_those_of_all():
    """Of 128 places of 1024 a batch, drawn anew each time, and the same ones of both networks."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    images = torch.nn.functional.avg_pool2d(torch.randn(64, 3, 34, 34), 3, 1)
    sums, everything = InputSums(2), []
    for batch in images.split(16):
        product = Product(0, batch, layer.weight.detach(), 2, {"padding": 1})
        assert product.places(16) == 1024 > PLACES
        sums.add(product, torch.arange(16) % 2, full=product, importance=torch.ones(16, 1))
        everything.append(product.columns(16)[:, :, 0])
    found = sums.result()
    for group in range(2):
        x = torch.cat(everything)[group::2].flatten(0, 1)
        expected = x.T @ x / len(x)
        assert float((found.moments[group, 0] - expected).norm() / expected.norm()) < 0.1
    assert not found.drift.any()


class Windows(nn.Module):
    """Attention's products within windows that are batched as images of their own, as in Swin: [images * windows, tokens, n]."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, images):
        windows = images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(-1, 4, 3)
        return self.head(self.mix(windows).reshape(len(images), -1, 5).mean(1))


class Tokens(nn.Module):
    """Tokens first: [tokens, images, n]."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, images):
        return self.head(self.mix(images.flatten(2).permute(2, 0, 1)).mean(0))


@pytest.mark.parametrize("kind", [Windows, Tokens])
@pytest.mark.parametrize("images", [3, 4, 16])
def test_images_are_told_apart_whatever_the_size_of_the_batch(kind, images):
    """Also where there are as many as a window has tokens (4), or as there are tokens (16)."""
    torch.manual_seed(0)
    network, batch = kind().eval(), torch.randn(images, 3, 4, 4)
    layers, seen = find_layers(network, "channel"), []
    tokens = find_sequence_first(network, batch, layers)
    assert tokens == (frozenset({0}) if kind is Tokens else frozenset())
    with Products(layers, lambda product: seen.append(product.columns(images)), sequence_first=tokens), torch.no_grad():
        network(batch)
    for row in range(images):
        alone = []
        with Products(layers, lambda product: alone.append(product.columns(1))), torch.no_grad():  # noqa: B023
            network(batch[row : row + 1])
        assert torch.allclose(seen[0][row : row + 1], alone[0])


def test_a_network_that_takes_no_single_image_is_told_by_its_shapes():
    class Fixed(nn.Linear):
        def forward(self, images):
            return super().forward(images.reshape(4, 12))

    network = nn.Sequential(Fixed(12, 2))
    assert find_sequence_first(network, torch.randn(4, 3, 2, 2), find_layers(network, "channel")) is None
