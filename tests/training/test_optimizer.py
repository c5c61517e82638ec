"""Bits move where their gradient is more than noise."""

import math

import pytest
import torch
from torch import nn

from fairquant.training.optimizer import ConfidentAdamW

STEPS, RATE = 200, 0.01


def walk(gradients, confidence, steps=STEPS):
    """Where each of the parameters is after AdamW with these gradients [steps, U]."""
    parameter = nn.Parameter(torch.zeros(gradients.shape[1]))
    optimizer = ConfidentAdamW([{"params": [parameter], "weight_decay": 0.0, "confidence": confidence}], lr=RATE)
    for gradient in gradients[:steps]:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def test_noise_moves_little_and_a_steady_gradient_nearly_as_far_as_adam_moves_it():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(STEPS, 500, generator=draw)
    wandered, cautious = walk(noise, 0.0).square().mean().sqrt(), walk(noise, 2.0).square().mean().sqrt()
    assert cautious < wandered / 4
    steady = torch.ones(STEPS, 1) * 1e-3
    assert walk(steady, 0.0).item() == pytest.approx(-STEPS * RATE, rel=1e-3)
    error = math.sqrt(0.1 / 1.9)  # of a mean over about ten steps, once the start is forgotten
    assert walk(steady, 2.0).item() / walk(steady, 0.0).item() == pytest.approx(1 - 2 * error, abs=0.03)


def test_a_single_gradient_proves_nothing():
    once = torch.tensor([[3.0, -1e-6, 0.0]])
    assert walk(once, 1.0).tolist() == [0.0, 0.0, 0.0]
    assert walk(once, 0.5).tolist() == pytest.approx([-RATE / 2, RATE / 2, 0.0], rel=0.02)


def test_without_confidence_it_is_adamw():
    gradients = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    plain = nn.Parameter(torch.zeros(7))
    optimizer = torch.optim.AdamW([plain], lr=RATE, weight_decay=0.0)
    for gradient in gradients:
        plain.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(walk(gradients, 0.0), plain.detach(), atol=1e-7)


def test_it_is_the_formula():
    """Two steps by hand: m = .1 g1 (.9) + .1 g2, v likewise, both corrected; e over two steps."""
    first, second = 1.0, 3.0
    mean = (0.09 * first + 0.1 * second) / (1 - 0.81)
    spread = math.sqrt((0.000999 * first**2 + 0.001 * second**2) / (1 - 0.999**2))
    error = spread * math.sqrt(0.1 / 1.9 * (1 + 0.81) / (1 - 0.81))
    expected = -RATE * mean / spread * max(0.0, 1 - 0.7 * error / mean)
    start = -RATE * (1 - 0.7)
    assert walk(torch.tensor([[first], [second]]), 0.7).item() == pytest.approx(start + expected, rel=1e-4)
