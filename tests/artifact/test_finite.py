"""Models that are not numbers are neither written nor read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.artifact.finite import finite_problems
from fairquant.artifact.save import save_artifact
from fairquant.errors import NotFinite


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.register_buffer("mask", torch.full((2, 2), -torch.inf))  # as attention has them
    return model


CASES = [
    ("0.weight", torch.nan, "'0.weight' has 1 of 108 values that are NaN"),
    ("0.bias", torch.inf, "'0.bias' has 1 of 4 values that are infinite"),
    ("1.running_mean", torch.inf, "'1.running_mean' has 1 of 4 values that are infinite"),
    ("1.running_var", -1.0, "'1.running_var' has variances below 0"),
    ("mask", torch.nan, "'mask' has 1 of 4 values that are NaN"),
]


@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_each_is_named(name, value, words, tmp_path):
    model = network()
    assert finite_problems(model) == []
    with torch.no_grad():
        model.state_dict()[name].flatten()[0] = value
    assert finite_problems(model) == [words]
    with pytest.raises(NotFinite, match="no artifact is written"):
        save_artifact(tmp_path / "model.safetensors", model, (), {}, {"classes": ["a"]})
    assert not list(tmp_path.iterdir())
