"""A user's own nn.Module: plain weights, one tensor of logits, or one clear error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from fairquant.artifact.own_module import (
    answer_with_logits,
    are_probabilities,
    check_storable,
    copied,
    first_logits,
    fold,
    logits_of,
)
from fairquant.errors import UserError

LOGITS = torch.tensor([[1.0, 2.0]])


def network(layer: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "norm", [weight_norm, spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_weights_that_are_computed_from_others_become_plain_and_the_answers_stay(norm):
    model, images = network(norm(nn.Conv2d(3, 4, 3))).eval(), torch.randn(5, 3, 8, 8)
    before = model(images)
    plain = copied(model)
    assert fold(plain) == ["0.weight"]
    torch.testing.assert_close(plain(images), before)
    assert set(plain.state_dict()) == {"0.weight", "0.bias", "4.weight", "4.bias"}
    assert isinstance(plain[0].weight, nn.Parameter)
    torch.testing.assert_close(model(images), before)  # the user's own is as it was
    assert fold(plain) == []


def test_orthogonal_weights_are_folded_as_well():
    model = nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(12, 4))).eval()
    images = torch.randn(2, 3, 2, 2)
    before = model(images)
    assert fold(model) == ["1.weight"]
    torch.testing.assert_close(model(images), before)


@pytest.mark.parametrize(
    "output", [LOGITS, SimpleNamespace(logits=LOGITS), {"logits": LOGITS, "loss": 1}, (LOGITS, None), [LOGITS]]
)
def test_logits_are_found_in_what_libraries_return(output):
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize("output", [None, (), {"scores": LOGITS}, "text", SimpleNamespace(loss=LOGITS)])
def test_anything_else_is_refused_with_what_is_wanted(output):
    with pytest.raises(UserError, match="wanted is a tensor"):
        logits_of(output)


def test_a_model_answers_with_its_logits_alone():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(nn.Conv2d(3, 4, 3))

        def forward(self, images):
            return SimpleNamespace(logits=self.inner(images))

    model = Wrapped()
    names = list(model.state_dict())
    answer_with_logits(model)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 2)
    assert list(model.state_dict()) == names


def test_the_number_of_outputs_is_asked_of_the_model_itself():
    image = torch.zeros(3, 8, 8)
    assert first_logits(network(nn.Conv2d(3, 4, 3)), image).shape == (2, 2)
    for layers, message in {
        (nn.Flatten(), nn.Linear(192, 1)): "one logit; give it one output for each class",
        (nn.Conv2d(3, 2, 3),): r"wanted are two rows of logits",
        (nn.Flatten(), nn.Linear(7, 2)): r"does not take images \(3, 8, 8\) like those given: RuntimeError",
    }.items():
        with pytest.raises(UserError, match=message):
            first_logits(nn.Sequential(*layers), image)


def test_probabilities_are_told_from_logits():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.9]])
    assert are_probabilities(logits.softmax(1))
    assert not are_probabilities(logits)
    assert not are_probabilities(logits.sigmoid())
    assert not are_probabilities(logits.log_softmax(1))


def test_state_that_is_no_tensor_is_refused_by_its_name():
    class Counts(nn.Linear):
        def get_extra_state(self):
            return {"calls": 1}

    check_storable(nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"state that is no tensor \(0._extra_state, by get_extra_state\)"):
        check_storable(nn.Sequential(Counts(2, 2)))


def test_modules_that_no_file_can_give_back_are_refused_with_the_way_out():
    with pytest.raises(UserError, match="compiled by torch.jit: give the nn.Module"):
        check_storable(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)))
    with pytest.raises(UserError, match="'0' has max_norm, which changes its weight whenever it is used"):
        check_storable(nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)))
