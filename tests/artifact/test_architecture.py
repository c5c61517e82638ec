"""The timm network that a recipe or an artifact names, for an image size."""

from __future__ import annotations

import pytest
import torch

from fairquant.artifact import architecture
from fairquant.artifact.architecture import architecture_of, count_values, create
from fairquant.errors import UserError
from fairquant.recipe.sections import ModelSettings


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", 48), ("deit_tiny_patch16_224", 64), ("deit_tiny_patch16_224", 224)]
)
def test_a_network_takes_images_of_the_size_asked_for(name, size):
    network = create(ModelSettings(name=name, image_size=size), 5).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 5)


def test_a_network_that_cannot_take_the_size_is_refused(monkeypatch):
    monkeypatch.setattr(architecture, "_refusal", lambda settings, classes, attempt, size: "no")
    with pytest.raises(
        UserError,
        match="timm cannot build 'resnet10t' for images of 33 pixels; it is made for [0-9]+. Set model.image_size=",
    ):
        create(ModelSettings(name="resnet10t", image_size=33), 5)


@pytest.mark.parametrize("size", [176, 32])
def test_options_that_timm_refuses_are_reported(size):
    with pytest.raises(UserError, match="timm cannot build 'resnet10t' with .*stem_widht"):
        create(ModelSettings(name="resnet10t", image_size=size, options={"stem_widht": 8}), 5)


def test_options_under_which_it_takes_no_colour_images_are_reported():
    with pytest.raises(UserError, match="model.options: timm cannot build 'resnet10t' with .*in_chans.*channel"):
        create(ModelSettings(name="resnet10t", image_size=33, options={"in_chans": 1}), 5)


@pytest.mark.parametrize("name", ["resnet18.foo", "resnet18."])
def test_weights_that_timm_does_not_know_are_reported(name):
    with pytest.raises(UserError, match="model.name: timm has no weights '(foo)?' of 'resnet18'"):
        create(ModelSettings(name=name, image_size=32), 5)


@pytest.mark.parametrize(("name", "size"), [("resnet10t", 32), ("deit_tiny_patch16_224", 32)])
def test_values_are_counted_without_allocating_them(name, size):
    settings = ModelSettings(name=name, image_size=size)
    state = create(settings, 7).state_dict()
    assert count_values(settings, 7) == sum(value.numel() for value in state.values())


def test_values_of_what_cannot_be_built_are_unknown():
    assert count_values(ModelSettings(name="resnet10tt"), 3) is None


def test_what_an_artifact_stores_builds_the_network_again():
    settings = ModelSettings(name="resnet10t", image_size=48, options={"stem_width": 16})
    stored = architecture_of(settings)
    again = ModelSettings(**{key: value for key, value in stored.items() if key != "source"})
    assert again == settings
    assert create(again, 3).conv1[0].weight.shape[0] == create(settings, 3).conv1[0].weight.shape[0]
