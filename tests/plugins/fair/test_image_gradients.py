"""Gradients of single images, whatever layers and axes they come from."""

from __future__ import annotations

import pytest
import torch
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

from fairquant.bits import find_layers


def test_fisher_of_convolutions_of_every_shape_equals_brute_force():
    """Few positions and many channels, many positions and few, strides, dilation, 1x1, rows and columns apart."""
    model, batch = convolutions(), data()
    layers = find_layers(model, "channel")
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
