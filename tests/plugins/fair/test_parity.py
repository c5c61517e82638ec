"""Soft parity and MMD by hand."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.parity import FeatureMmd, SoftDemographicParity, SoftEqualizedOdds

from fairquant.roles import Step


def test_soft_parity_by_hand():
    logits = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]]).log()
    labels, groups = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    by_hand = Step(losses=torch.zeros(4), logits=logits, labels=labels, groups=groups, group_count=2)
    assert float(SoftDemographicParity().penalty(by_hand)) == pytest.approx(0.8 - 0.3, abs=1e-6)
    # label 0: .9 against .2; label 1: .7 against .4, for either class
    assert float(SoftEqualizedOdds().penalty(by_hand)) == pytest.approx((0.7 + 0.3) / 2, abs=1e-6)


def test_mmd_is_zero_for_equal_groups_and_grows_with_the_shift():
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
