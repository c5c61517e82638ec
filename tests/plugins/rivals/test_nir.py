"""NIR by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairquant_rivals.nir import NeuronImportance

from fairquant.roles import Step


def test_nir_by_hand():
    logits = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    features = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    means = np.array([[(0.75 + 1.0) / 1.25, 2.25 / 1.25], [(0.25 + 1.0) / 0.75, 0.75 / 0.75]])
    zeros = torch.zeros(2, dtype=torch.long)
    by_hand = Step(losses=torch.zeros(2), logits=logits, labels=zeros, groups=zeros, group_count=1, features=features)
    assert float(NeuronImportance(weight=1).penalty(by_hand)) == pytest.approx(means.var(1).sum(), rel=1e-5)
