"""One step of training as regularizers see it: losses of groups, learned bits, the inputs asked for."""

from __future__ import annotations

import pytest
import torch

from fairquant.roles import BitState, Step
from fairquant.roles.regularizer import inputs_needed


def step(losses: list[float], groups: list[int], running: torch.Tensor | None = None) -> Step:
    count = len(losses)
    return Step(
        losses=torch.tensor(losses, requires_grad=True), logits=torch.zeros(count, 2),
        labels=torch.zeros(count, dtype=torch.long), groups=torch.tensor(groups), group_count=3, running=running,
    )  # fmt: skip


def test_group_losses_are_means_over_the_groups_in_the_batch():
    assert step([1.0, 3.0, 5.0], [2, 2, 0]).group_losses().tolist() == [5.0, 2.0]


def test_a_running_loss_gives_the_value_and_the_batch_the_gradient():
    given = step([1.0, 3.0], [0, 0], torch.tensor([7.0, 4.0, torch.nan]))
    losses, present = given.losses_by_group()
    assert present.tolist() == [True, True, False]
    assert losses[:2].tolist() == [7.0, 4.0]
    losses[present].sum().backward()
    assert given.losses.grad.tolist() == [0.5, 0.5]


def test_bits_are_averaged_over_weights_and_spent_as_they_round():
    state = BitState(
        logits=torch.zeros(2), start=torch.zeros(2), bits=torch.tensor([2.4, 1.0]), sizes=torch.tensor([30.0, 10.0]),
        budget=2.0,
    )  # fmt: skip
    assert float(state.average) == pytest.approx(2.05)
    assert float(state.spent) == pytest.approx(1.75)


def test_a_regularizer_gets_only_what_its_class_asks_for():
    class Plain:
        def penalty(self, step): ...

    class Teacher(Plain):
        needs = frozenset({"teacher"})

    assert inputs_needed(Plain()) == frozenset()
    assert inputs_needed(Teacher()) == {"teacher"}
