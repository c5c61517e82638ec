"""A network bound to what it is used with."""

from __future__ import annotations

import torch
from helpers.training import bound, small_network


def test_a_copy_has_a_network_of_its_own():
    model = bound(small_network())
    other = model.copy()
    with torch.no_grad():
        other.network[0].weight.zero_()
    assert model.network[0].weight.abs().sum() > 0
    assert (other.class_names, other.normalization) == (model.class_names, model.normalization)
