"""The paper's rule: fixed fractions of the units at fixed bits."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.quantile import Quantile
from helpers.allocation import random_allocation


def test_the_papers_quantile_rule_by_hand():
    problem = random_allocation(10, (2, 4, 8), 8.0)
    allocation = Quantile((2, 4, 8), (0.2, 0.4, 0.4)).allocate(problem)
    order = torch.argsort(problem.scores)
    assert allocation.bits[order].tolist() == [2] * 2 + [4] * 4 + [8] * 4
    assert allocation.nominal_bits == pytest.approx(5.2)


def test_quantile_meets_a_budget_that_its_fractions_exceed():
    problem = random_allocation(100, (2, 4, 8), 3.0)
    allocation = Quantile().allocate(problem)
    actual = float((allocation.bits * problem.sizes).sum() / problem.sizes.sum())
    assert allocation.nominal_bits == pytest.approx(5.2)
    assert 2.7 < actual <= 3.0
    # the least important go down first
    assert problem.scores[allocation.bits == 2].mean() < problem.scores[allocation.bits > 2].mean()
