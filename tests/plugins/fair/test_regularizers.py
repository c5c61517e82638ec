"""The bit budget: its multiplier follows what the rounded bits spend."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fairquant_fair.regularizers import BitBudget
from helpers.regularizers import step

from fairquant.roles.regularizer import BitState


def test_the_multiplier_follows_what_the_rounded_bits_spend():
    """Two units of 30 and 10 weights at 2.4 and 1.0 bits: 1.75 spent (2.05 before rounding), 0.25 above the budget."""
    bits = torch.tensor([2.4, 1.0], requires_grad=True)
    state = BitState(logits=bits, start=bits.detach(), bits=bits, sizes=torch.tensor([30.0, 10.0]), budget=1.5)
    budget = BitBudget(weight=2.0, rate=0.1, start=0.5)
    memory = budget.memory()
    learning = dataclasses.replace(step(), bits=state, memory=memory)
    penalty = budget.penalty(learning)
    assert float(memory.multiplier) == pytest.approx(0.5 + 0.1 * 0.25)
    assert float(penalty) == pytest.approx(2 * 0.525 * (2.05 - 1.5))
    penalty.backward()
    assert bits.grad.tolist() == pytest.approx([2 * 0.525 * 0.75, 2 * 0.525 * 0.25])
    under = dataclasses.replace(learning, bits=dataclasses.replace(state, budget=8.0))
    budget.penalty(under)
    assert float(memory.multiplier) == 0  # 0.525 - 0.1 * 6.25 is below 0
