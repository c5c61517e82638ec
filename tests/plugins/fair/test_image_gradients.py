"""Gradients of single images, whatever layers and axes they come from."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair import image_gradients
from fairquant_fair.fisher import BlockFisher, Fisher
from helpers.importance import (
    GROUPS,
    Windows,
    brute_force,
    brute_force_errors,
    convolutions,
    cut,
    data,
    some_errors,
)
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers


def test_fisher_of_convolutions_of_every_shape_equals_brute_force():
    """Few positions and many channels, many positions and few, strides, dilation, 1x1, rows and columns apart."""
    model, batch = convolutions(), data()
    layers = find_layers(model, "channel")
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


def test_convolutions_that_pad_by_themselves_equal_brute_force(monkeypatch):
    """timm's Conv2dSame, whose forward is its own, needs no pass for each image."""
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    model = nn.Sequential(
        Conv2dSame(3, 6, 3, stride=2), nn.ReLU(), Conv2dSame(6, 6, (3, 5), stride=(2, 1), groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    ).double()  # fmt: skip
    batch, layers = data(), find_layers(model, "channel")
    slow = []
    monkeypatch.setattr(image_gradients, "_image_by_image", lambda *given: slow.append(given))
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    assert slow == []
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


def test_a_layer_that_computes_something_of_its_own_equals_brute_force():
    class Standardized(nn.Conv2d):
        def forward(self, images):
            return F.conv2d(images, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias, padding=1)

    torch.manual_seed(0)
    model = nn.Sequential(
        Standardized(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    batch, layers = data(), find_layers(model, "channel")
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("image_major", [True, False])
def test_fisher_tells_images_apart_whatever_axis_they_are_on(image_major):
    model, batch = Windows(image_major).double(), data()
    layers = find_layers(model, "channel")
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


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


@pytest.mark.parametrize("image_major", [True, False])
def test_images_are_told_apart_where_there_are_as_many_tokens(image_major):
    """The sizes of the axes do not say then which of them is the batch's."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(8, 4), nn.Linear(4, 3)

        def forward(self, images):
            tokens = images.flatten(1)[:, :56].reshape(-1, 7, 8)
            hidden = self.hidden(tokens if image_major else tokens.transpose(0, 1))
            return self.out((hidden if image_major else hidden.transpose(0, 1)).relu().mean(1))

    torch.manual_seed(0)
    model, batch = Tokens().double(), data()
    layers = find_layers(model, "channel")
    measured = Fisher().measure(model, cut(batch, 7, 7), layers, GROUPS)
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)


def test_signals_and_the_output_of_attention_need_no_pass_for_each_image(monkeypatch):
    """Only attention's input projection, which torch multiplies within it, is differentiated image by image."""

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.signal, self.attention = nn.Conv1d(3, 8, 5, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, images):
            tokens = self.signal(images.flatten(2)).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    torch.manual_seed(0)
    model, batch = Attends().double(), data()
    layers, slow = find_layers(model, "channel"), []
    image_by_image = image_gradients._image_by_image
    monkeypatch.setattr(
        image_gradients,
        "_image_by_image",
        lambda *given: (slow.extend(each.name for each in given[2]), image_by_image(*given))[1],
    )
    measured = Fisher().measure(model, cut(batch, 5, 1, 8), layers, GROUPS)
    assert set(slow) == {"attention.in_proj_weight"}
    for name, expected in brute_force(model, batch, layers, "fisher").items():
        torch.testing.assert_close(measured.scores[name], expected, rtol=1e-9, atol=1e-18)
