"""Gradients and GRAPE."""

from __future__ import annotations

import torch
from fairquant_paper.importance import Gradient
from helpers.importance import (
    GROUPS,
    cut,
    data,
)

from fairquant.bits import find_layers


def test_the_papers_sum_over_batches_depends_on_batching_and_says_so(strange):
    model, batch = strange.double(), data(20)
    layers = find_layers(model, "channel")
    one = Gradient(over="batch").measure(model, [batch], layers, GROUPS).table()
    two = Gradient(over="batch").measure(model, cut(batch, 10, 10), layers, GROUPS).table()
    assert not torch.allclose(one, two)
    assert "batches matter" in Gradient(over="batch").exempt["batches_do_not_matter"]
    assert not Gradient().exempt
