"""Regularizers: finite, differentiable, 0 for one group where they are about groups, and equal to hand-made cases."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from fairquant_fair.distillation import Distillation
from fairquant_fair.parity import FeatureMmd, SoftDemographicParity, SoftEqualizedOdds
from fairquant_fair.regularizers import BitBudget, GroupVariance
from fairquant_fair.robust import CvarGroups, CvarSamples, GroupDro
from fairquant_paper.regularizers import LossGap
from fairquant_rivals.nir import NeuronImportance
from torch.nn import functional as F

from fairquant.roles import Step
from fairquant.roles.regularizer import BitState

ABOUT_GROUPS = [
    LossGap(), GroupVariance(), GroupDro(), CvarGroups(), SoftDemographicParity(), SoftEqualizedOdds(), FeatureMmd(),
]  # fmt: skip
OTHERS = [CvarSamples(), Distillation(), Distillation(balanced=True), NeuronImportance()]


def step(groups=(0, 0, 1, 1, 2, 0), group_count=3, seed=0, **more) -> Step:
    torch.manual_seed(seed)
    size = len(groups)
    logits = torch.randn(size, 4, requires_grad=True)
    labels = torch.randint(4, (size,))
    losses = F.cross_entropy(logits, labels, reduction="none")
    features = logits @ torch.randn(4, 5)
    return Step(
        losses=losses,
        logits=logits,
        labels=labels,
        groups=torch.tensor(groups),
        group_count=group_count,
        features=features,
        teacher=torch.randn(size, 4),
        **more,
    )


@pytest.mark.parametrize("regularizer", [*ABOUT_GROUPS, *OTHERS], ids=str)
def test_finite_and_differentiable_and_scaled_by_its_weight(regularizer):
    made = step()
    penalty = regularizer.penalty(made)
    assert penalty.shape == ()
    assert torch.isfinite(penalty)
    (gradient,) = torch.autograd.grad(penalty, made.logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    doubled = type(regularizer)(**{**regularizer.__dict__, "weight": 2 * regularizer.weight})
    assert float(doubled.penalty(made)) == pytest.approx(2 * float(penalty), rel=1e-5)


@pytest.mark.parametrize("regularizer", ABOUT_GROUPS, ids=str)
def test_one_group_costs_nothing(regularizer):
    made = step(groups=(1, 1, 1, 1), group_count=3)
    assert float(regularizer.penalty(made)) == pytest.approx(0, abs=1e-6)
    torch.autograd.grad(regularizer.penalty(made), made.logits)  # still differentiable


@pytest.mark.parametrize("regularizer", [*ABOUT_GROUPS, *OTHERS], ids=str)
def test_the_order_of_groups_does_not_matter(regularizer):
    one, other = step(groups=(0, 0, 1, 1, 2, 0)), step(groups=(2, 2, 0, 0, 1, 2))
    assert float(regularizer.penalty(one)) == pytest.approx(float(regularizer.penalty(other)), rel=1e-5)


def test_group_dro_moves_weight_to_the_group_that_loses_most():
    losses = torch.tensor([1.0, 3.0, 1.0, 3.0], requires_grad=True)
    made = Step(
        losses=losses,
        logits=torch.zeros(4, 2),
        labels=torch.zeros(4, dtype=torch.long),
        groups=torch.tensor([0, 1, 0, 1]),
        group_count=2,
    )
    regularizer = GroupDro(eta=0.5)
    memory = regularizer.memory()
    made = Step(**{**made.__dict__, "memory": memory})
    penalties = [float(regularizer.penalty(made)) for _ in range(3)]
    q = 1 / (1 + math.exp(-0.5 * 2))  # after one update exp(.5 * 3) against exp(.5 * 1)
    assert penalties[0] == pytest.approx(q * 3 + (1 - q) * 1 - 2, rel=1e-5)
    assert penalties[0] < penalties[1] < penalties[2] < 1


def test_group_dro_keeps_any_number_of_groups_and_restores_them_from_a_checkpoint(tmp_path):
    groups = tuple(range(70))
    regularizer, memory = GroupDro(eta=0.5), torch.nn.ModuleList([GroupDro().memory()])
    for seed in range(3):
        made = step(groups=groups, group_count=70, seed=seed, memory=memory[0])
        assert torch.isfinite(regularizer.penalty(made))
    q = memory[0].log_q.softmax(0)
    assert q.shape == (70,)
    assert float(q.max()) > 2 * float(q.min())
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    restored = torch.nn.ModuleList([GroupDro().memory()])
    restored.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    assert torch.equal(restored[0].log_q, memory[0].log_q)
    made = step(groups=groups, group_count=70, seed=9)
    after = [float(regularizer.penalty(dataclasses.replace(made, memory=each[0]))) for each in (memory, restored)]
    assert after[0] == after[1]


def test_cvar_takes_the_worst_share():
    losses = torch.tensor([1.0, 2.0, 3.0, 6.0])
    made = Step(
        losses=losses,
        logits=torch.zeros(4, 2),
        labels=torch.zeros(4, dtype=torch.long),
        groups=torch.tensor([0, 1, 2, 3]),
        group_count=4,
    )
    assert float(CvarGroups(alpha=0.5).penalty(made)) == pytest.approx(4.5 - 3)
    assert float(CvarSamples(alpha=0.25).penalty(made)) == pytest.approx(6 - 3)
    assert float(CvarGroups(alpha=1).penalty(made)) == 0


def test_soft_parity_by_hand():
    logits = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]]).log()
    labels, groups = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    made = Step(losses=torch.zeros(4), logits=logits, labels=labels, groups=groups, group_count=2)
    assert float(SoftDemographicParity().penalty(made)) == pytest.approx(0.8 - 0.3, abs=1e-6)
    # label 0: .9 against .2; label 1: .7 against .4, for either class
    assert float(SoftEqualizedOdds().penalty(made)) == pytest.approx((0.7 + 0.3) / 2, abs=1e-6)


def test_mmd_is_zero_for_like_groups_and_grows_with_the_shift():
    base = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    def at(shift: float) -> float:
        features = torch.cat([base, base + shift])
        groups = torch.arange(40) // 20
        return float(
            FeatureMmd().penalty(
                Step(
                    losses=torch.zeros(40),
                    logits=torch.zeros(40, 2),
                    labels=groups,
                    groups=groups,
                    group_count=2,
                    features=features,
                )
            )
        )

    assert at(0.0) == pytest.approx(0, abs=1e-6)
    assert 0 < at(0.5) < at(2.0)


def test_distillation_is_zero_for_the_teachers_answers_and_balanced_counts_groups_alike():
    made = step(groups=(0, 0, 0, 0, 0, 1), group_count=2)
    same = Step(**{**made.__dict__, "teacher": made.logits.detach()})
    assert float(Distillation().penalty(same)) == pytest.approx(0, abs=1e-6)
    only_last = made.logits.detach().clone()
    only_last[-1] += torch.tensor([3.0, 0, 0, 0])
    shifted = Step(**{**made.__dict__, "teacher": only_last})
    plain, balanced = (float(Distillation(balanced=b).penalty(shifted)) for b in (False, True))
    assert balanced == pytest.approx(3 * plain, rel=1e-5)  # 1 of 6 images, 1 of 2 groups


def test_the_price_of_a_bit_follows_what_the_rounded_bits_spend():
    """Two units of 30 and 10 weights at 2.4 and 1.0 bits: 1.75 spent (2.05 before rounding), 0.25 above the budget."""
    bits = torch.tensor([2.4, 1.0], requires_grad=True)
    state = BitState(logits=bits, start=bits.detach(), bits=bits, sizes=torch.tensor([30.0, 10.0]), budget=1.5)
    budget = BitBudget(weight=2.0, rate=0.1, start=0.5)
    memory = budget.memory()
    here = dataclasses.replace(step(), bits=state, memory=memory)
    penalty = budget.penalty(here)
    assert float(memory.multiplier) == pytest.approx(0.5 + 0.1 * 0.25)
    assert float(penalty) == pytest.approx(2 * 0.525 * (2.05 - 1.5))
    penalty.backward()
    assert bits.grad.tolist() == pytest.approx([2 * 0.525 * 0.75, 2 * 0.525 * 0.25])
    under = dataclasses.replace(here, bits=dataclasses.replace(state, budget=8.0))
    budget.penalty(under)
    assert float(memory.multiplier) == 0  # 0.525 - 0.1 * 6.25 is below 0


def test_nir_by_hand():
    logits = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    features = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    means = np.array([[(0.75 + 1.0) / 1.25, 2.25 / 1.25], [(0.25 + 1.0) / 0.75, 0.75 / 0.75]])
    zeros = torch.zeros(2, dtype=torch.long)
    made = Step(losses=torch.zeros(2), logits=logits, labels=zeros, groups=zeros, group_count=1, features=features)
    assert float(NeuronImportance(weight=1).penalty(made)) == pytest.approx(means.var(1).sum(), rel=1e-5)


def test_running_group_losses_give_the_value_and_the_batch_the_gradient():
    made = step(groups=(0, 0, 1, 1), group_count=3, running=torch.tensor([5.0, 1.0, 2.0]))
    penalty = LossGap(weight=1).penalty(made)
    assert float(penalty) == pytest.approx(4)
    (gradient,) = torch.autograd.grad(penalty, made.logits)
    assert gradient[:2].abs().sum() > 0
    assert gradient[2:].abs().sum() > 0
