"""What holds for every regularizer: finite, differentiable, 0 for one group where it is about groups."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.distillation import Distillation
from fairquant_fair.parity import FeatureMmd, SoftDemographicParity, SoftEqualizedOdds
from fairquant_fair.regularizers import GroupVariance
from fairquant_fair.robust import CvarGroups, CvarSamples, GroupDro
from fairquant_paper.regularizers import LossGap
from fairquant_rivals.nir import NeuronImportance
from helpers.regularizers import step

ABOUT_GROUPS = [
    LossGap(), GroupVariance(), GroupDro(), CvarGroups(), SoftDemographicParity(), SoftEqualizedOdds(), FeatureMmd(),
]  # fmt: skip


OTHERS = [CvarSamples(), Distillation(), Distillation(balanced=True), NeuronImportance()]


@pytest.mark.parametrize("regularizer", [*ABOUT_GROUPS, *OTHERS], ids=str)
def test_finite_and_differentiable_and_scaled_by_its_weight(regularizer):
    random_step = step()
    penalty = regularizer.penalty(random_step)
    assert penalty.shape == ()
    assert torch.isfinite(penalty)
    (gradient,) = torch.autograd.grad(penalty, random_step.logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    doubled = type(regularizer)(**{**regularizer.__dict__, "weight": 2 * regularizer.weight})
    assert float(doubled.penalty(random_step)) == pytest.approx(2 * float(penalty), rel=1e-5)


@pytest.mark.parametrize("regularizer", ABOUT_GROUPS, ids=str)
def test_one_group_costs_nothing(regularizer):
    random_step = step(groups=(1, 1, 1, 1), group_count=3)
    assert float(regularizer.penalty(random_step)) == pytest.approx(0, abs=1e-6)
    torch.autograd.grad(regularizer.penalty(random_step), random_step.logits)  # still differentiable


@pytest.mark.parametrize("regularizer", [*ABOUT_GROUPS, *OTHERS], ids=str)
def test_the_order_of_groups_does_not_matter(regularizer):
    one, other = step(groups=(0, 0, 1, 1, 2, 0)), step(groups=(2, 2, 0, 0, 1, 2))
    assert float(regularizer.penalty(one)) == pytest.approx(float(regularizer.penalty(other)), rel=1e-5)
