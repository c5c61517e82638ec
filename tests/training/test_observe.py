"""Running group losses, and what the classifier is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.errors import UserError
from fairquant.roles import Step
from fairquant.training.observe import RunningLosses, capture_features


def test_running_losses_remember_groups_that_are_missing():
    memory = RunningLosses(2)

    def step(losses, groups):
        return Step(
            losses=torch.tensor(losses),
            logits=torch.zeros(2, 2),
            labels=torch.zeros(2, dtype=torch.long),
            groups=torch.tensor(groups),
            group_count=2,
        )

    assert torch.isnan(memory.update(step([1.0, 3.0], [0, 0]), 0.9)[1])
    assert memory.update(step([4.0, 6.0], [1, 1]), 0.9).tolist() == [2.0, 5.0]
    assert memory.update(step([2.0, 15.0], [0, 1]), 0.9).tolist() == pytest.approx([2.0, 6.0])


def test_features_are_the_inputs_of_the_classifier():
    import timm

    model = timm.create_model("resnet10t", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with capture_features(model) as seen, torch.no_grad():
        logits = model(images)
    assert torch.allclose(model.get_classifier()(seen[-1]), logits)
    with capture_features(None) as seen:
        model(images)
    assert not seen
    with (
        pytest.raises(UserError, match="ends in no Linear layer"),
        capture_features(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())),
    ):
        pass
