"""Running group losses, and what the classifier is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.errors import PluginFailed, UserError
from fairquant.recipe.schema import Component
from fairquant.roles import Step
from fairquant.training.observe import RunningLosses, capture_features, penalty_of


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


def _step():
    logits = torch.randn(4, 2, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1])
    return Step(
        losses=nn.functional.cross_entropy(logits, labels, reduction="none"), logits=logits, labels=labels,
        groups=torch.zeros(4, dtype=torch.long), group_count=1,
    )  # fmt: skip


class Asks:
    """A regularizer of one function."""

    def __init__(self, function):
        self.penalty = function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda step: None, "returned NoneType, a tensor"),
        (lambda step: step.losses, r"returned torch.float32 \(4,\), a tensor"),
        (lambda step: (step.losses > 0).sum(), "returned torch.int64 .*one real number is wanted"),
        (lambda step: step.losses.detach().sum(), "without a gradient, which changes nothing"),
        (lambda step: step.labels.fill_(0).sum() + step.losses.sum(), "wrote into labels, which others read"),
        (lambda step: (torch.set_grad_enabled(False), step.losses.sum())[1], "left gradients turned off"),
    ],
)
def test_a_penalty_that_is_none_is_named_with_its_regularizer(function, message):
    with pytest.raises(PluginFailed, match=f"regularizer 'theirs' .*{message}"):
        penalty_of(Component("theirs", Asks(function)), _step())
    assert torch.is_grad_enabled()


def test_a_penalty_of_0_needs_no_gradient():
    assert penalty_of(Component("theirs", Asks(lambda step: step.losses.new_zeros(()))), _step()) == 0
