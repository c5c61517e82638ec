"""The loss gap, and pressure on bit logits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fairquant_paper.regularizers import BitAnchor, BitL2, LossGap
from helpers.regularizers import step

from fairquant.roles import BitState


def test_running_group_losses_give_the_value_and_the_batch_the_gradient():
    by_hand = step(groups=(0, 0, 1, 1), group_count=3, running=torch.tensor([5.0, 1.0, 2.0]))
    penalty = LossGap(weight=1).penalty(by_hand)
    assert float(penalty) == pytest.approx(4)
    (gradient,) = torch.autograd.grad(penalty, by_hand.logits)
    assert gradient[:2].abs().sum() > 0
    assert gradient[2:].abs().sum() > 0


def state(logits: list[float], start: list[float]) -> BitState:
    values = torch.tensor(logits, requires_grad=True)
    return BitState(logits=values, start=torch.tensor(start), bits=values, sizes=torch.ones(len(logits)), budget=4.0)


@pytest.mark.parametrize(
    ("regularizer", "expected"), [(BitAnchor(weight=2.0), 2 * (0.25 + 1) / 2), (BitL2(weight=2.0), 2 * (2.25 + 4))]
)
def test_pressure_on_bit_logits_by_hand(regularizer, expected):
    pressed = dataclasses.replace(step(), bits=state([1.5, 2.0], [1.0, 1.0]))
    assert float(regularizer.penalty(pressed)) == pytest.approx(expected)


@pytest.mark.parametrize("regularizer", [BitAnchor(), BitL2()])
def test_where_bits_are_not_learned_there_is_no_pressure_on_them(regularizer):
    assert float(regularizer.penalty(step())) == 0


def test_the_loss_gap_is_between_the_groups_in_the_batch():
    by_hand = dataclasses.replace(step(groups=(0, 0, 2), group_count=3), losses=torch.tensor([1.0, 2.0, 4.0]))
    assert float(LossGap(weight=2.0).penalty(by_hand)) == pytest.approx(2 * (4 - 1.5))


@pytest.mark.parametrize("kind", [LossGap, BitAnchor, BitL2])
def test_a_negative_weight_is_refused(kind):
    with pytest.raises(ValueError, match="weight: must not be negative, got -1"):
        kind(weight=-1.0)
