"""Group DRO and CVaR by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from fairquant_fair.robust import CvarGroups, CvarSamples, GroupDro
from helpers.regularizers import step

from fairquant.roles import Step


def test_group_dro_moves_weight_to_the_group_that_loses_most():
    losses = torch.tensor([1.0, 3.0, 1.0, 3.0], requires_grad=True)
    by_hand = Step(
        losses=losses,
        logits=torch.zeros(4, 2),
        labels=torch.zeros(4, dtype=torch.long),
        groups=torch.tensor([0, 1, 0, 1]),
        group_count=2,
    )
    regularizer = GroupDro(eta=0.5)
    memory = regularizer.memory()
    by_hand = Step(**{**by_hand.__dict__, "memory": memory})
    penalties = [float(regularizer.penalty(by_hand)) for _ in range(3)]
    q = 1 / (1 + math.exp(-0.5 * 2))  # after one update exp(.5 * 3) against exp(.5 * 1)
    assert penalties[0] == pytest.approx(q * 3 + (1 - q) * 1 - 2, rel=1e-5)
    assert penalties[0] < penalties[1] < penalties[2] < 1


def test_group_dro_keeps_any_number_of_groups_and_restores_them_from_a_checkpoint(tmp_path):
    groups = tuple(range(70))
    regularizer, memory = GroupDro(eta=0.5), torch.nn.ModuleList([GroupDro().memory()])
    for seed in range(3):
        by_hand = step(groups=groups, group_count=70, seed=seed, memory=memory[0])
        assert torch.isfinite(regularizer.penalty(by_hand))
    q = memory[0].log_q.softmax(0)
    assert q.shape == (70,)
    assert float(q.max()) > 2 * float(q.min())
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    restored = torch.nn.ModuleList([GroupDro().memory()])
    restored.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    assert torch.equal(restored[0].log_q, memory[0].log_q)
    by_hand = step(groups=groups, group_count=70, seed=9)
    after = [float(regularizer.penalty(dataclasses.replace(by_hand, memory=each[0]))) for each in (memory, restored)]
    assert after[0] == after[1]


def test_cvar_takes_the_worst_fraction():
    losses = torch.tensor([1.0, 2.0, 3.0, 6.0])
    by_hand = Step(
        losses=losses,
        logits=torch.zeros(4, 2),
        labels=torch.zeros(4, dtype=torch.long),
        groups=torch.tensor([0, 1, 2, 3]),
        group_count=4,
    )
    assert float(CvarGroups(alpha=0.5).penalty(by_hand)) == pytest.approx(4.5 - 3)
    assert float(CvarSamples(alpha=0.25).penalty(by_hand)) == pytest.approx(6 - 3)
    assert float(CvarGroups(alpha=1).penalty(by_hand)) == 0
