"""Distillation from the full-precision model."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.distillation import Distillation
from helpers.regularizers import step

from fairquant.roles import Step


def test_distillation_is_zero_for_the_teachers_answers_and_balanced_counts_groups_equally():
    plain_step = step(groups=(0, 0, 0, 0, 0, 1), group_count=2)
    same = Step(**{**plain_step.__dict__, "teacher": plain_step.logits.detach()})
    assert float(Distillation().penalty(same)) == pytest.approx(0, abs=1e-6)
    only_last = plain_step.logits.detach().clone()
    only_last[-1] += torch.tensor([3.0, 0, 0, 0])
    shifted = Step(**{**plain_step.__dict__, "teacher": only_last})
    plain, balanced = (float(Distillation(balanced=b).penalty(shifted)) for b in (False, True))
    assert balanced == pytest.approx(3 * plain, rel=1e-5)  # 1 of 6 images, 1 of 2 groups
