"""Batch norm statistics, and the images they are taken from."""

from __future__ import annotations

import numpy as np
import torch
from helpers.splits import unequal_split
from torch import nn

from fairquant.roles import Batch
from fairquant.training.batch_norm import draw_train_subset, reestimate_batch_norm


def test_batch_norm_gets_the_statistics_of_the_images_and_keeps_all_else():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    model[1].running_mean.fill_(9.0)
    images = torch.randn(40, 3, 5, 5)
    zeros = torch.zeros(20, dtype=torch.long)
    weight = model[0].weight.clone()
    assert reestimate_batch_norm(model, [Batch(batch, zeros, zeros) for batch in images.split(20)]) == 1
    seen = model[0](images)
    assert torch.allclose(model[1].running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    expected = torch.stack([batch.var((0, 2, 3)) for batch in seen.split(20)]).mean(0)
    assert torch.allclose(model[1].running_var, expected, atol=1e-5)
    assert (model[1].momentum, model.training, model[1].training) == (0.3, False, False)
    assert torch.equal(model[0].weight, weight)
    assert reestimate_batch_norm(nn.Linear(2, 2), []) == 0


def test_balanced_images_for_batch_norm_hold_each_group_equally():
    data = unequal_split()
    even = draw_train_subset(data, 40, 3, seed=0, balanced=True)  # a third group without images is no harm
    assert np.bincount(even.groups).tolist() == [20, 20]
    plain = draw_train_subset(data, 40, 3, seed=0, balanced=False)
    assert len(plain) == 40
    assert len(set(plain.ids)) == 40
