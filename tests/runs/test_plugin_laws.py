"""An importance that breaks its laws is named before anything is made of what it returns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.bits import find_layers
from fairquant.errors import PluginFailed
from fairquant.roles import GroupImportance
from fairquant.runs.plugin_laws import check_scores, leaves_alone
from fairquant.runs.torch_state import TorchState

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
LAYERS = find_layers(NETWORK, "channel", ())
GOOD = {layer.name: torch.ones(2, layer.units) for layer in LAYERS}


def scores(**changes: object) -> GroupImportance:
    return GroupImportance({**GOOD, **changes}, ("a", "b"))


BAD = [
    (None, "returned NoneType, a GroupImportance is wanted"),
    (GroupImportance(GOOD, ("a",)), "its groups are"),
    (GroupImportance({}, ("a", "b")), "no scores of layer '0'"),
    (scores(**{"0": torch.full((2, 4), torch.nan)}), "layer '0': 8 scores are NaN or infinite"),
    (scores(**{"0": torch.full((2, 4), -1.0)}), "layer '0': 8 scores are below 0"),
    (scores(**{"0": torch.ones(2, 5)}), r"layer '0': scores \(2, 5\), \(2, 4\) wanted"),
    (scores(**{"0": [1.0]}), "layer '0': scores list"),
]


@pytest.mark.parametrize(("found", "message"), BAD)
def test_scores_that_are_none_are_refused(found, message):
    with pytest.raises(PluginFailed, match=message):
        check_scores(found, LAYERS, ("a", "b"), "theirs")
    check_scores(scores(), LAYERS, ("a", "b"), "theirs")


def zero(network):
    with torch.no_grad():
        network[0].weight.zero_()


CHANGES = {
    "weights or buffers": zero,
    "requires_grad": lambda network: network[0].weight.requires_grad_(False),
    "gradients": lambda network: network(torch.ones(4, 3, 3, 3)).sum().backward(),
    "hooks": lambda network: network[0].register_forward_hook(lambda *given: None),
    "training mode": lambda network: network.train(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_is_left_changed_is_named(what):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).eval()
    with leaves_alone(network, "importance 'theirs'"):
        network(torch.ones(1, 3, 3, 3))

    def change() -> None:
        with leaves_alone(network, "importance 'theirs'"):
            CHANGES[what](network)

    with pytest.raises(PluginFailed, match=f"importance 'theirs' changed the model's .*{what}"):
        change()


def test_settings_of_torch_are_set_again_and_named():
    state = TorchState()
    assert state.undo() == ""
    torch.set_grad_enabled(False)
    assert state.undo() == "changed torch's settings (gradients)"
    assert torch.is_grad_enabled()
