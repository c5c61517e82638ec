"""Uniform quantization by hand, its gradients, its learned scale."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.uniform import Uniform

CHOICES = tuple(range(9))


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)


def test_uniform_by_hand():
    weight = torch.tensor([[1.0, -0.6, 0.2, 0.05]])
    build = lambda bits: Uniform("absmax").build(weight, torch.tensor([bits]), CHOICES)(weight)[0].tolist()
    assert build(0) == [0, 0, 0, 0]
    assert build(1) == pytest.approx([0.4625, -0.4625, 0.4625, 0.4625])  # sign(w) * mean|w|
    assert build(2) == [1, -1, 0, 0]
    assert build(3) == pytest.approx([1, -2 / 3, 1 / 3, 0])


def test_the_straight_through_gradient_is_the_identity():
    weight = weights(4, 10, 3).requires_grad_(True)
    target = torch.randn(4, 10)
    (Uniform("mse").build(weight, torch.full((4,), 3), CHOICES)(weight) * target).sum().backward()
    torch.testing.assert_close(weight.grad, target)


def test_the_learned_scale_follows_lsq_and_lowers_the_error():
    weight = weights(8, 200, 4)
    built = Uniform("learned").build(weight, torch.full((8,), 3), CHOICES)
    with torch.no_grad():
        built.log_scale += 0.7  # start twice too large
    optimizer = torch.optim.Adam(built.parameters(), lr=0.02)
    first = (built(weight) - weight).square().sum()
    for _ in range(120):
        optimizer.zero_grad()
        (built(weight) - weight).square().sum().backward()
        optimizer.step()
    best = (Uniform("mse").build(weight, torch.full((8,), 3), CHOICES)(weight) - weight).square().sum()
    last = (built(weight) - weight).square().sum()
    assert last.item() <= best.item() * 1.02
    assert first.item() > 1.5 * best.item()
