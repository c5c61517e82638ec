"""Which weights of a network are quantized, and in which units."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairquant.bits.layers import (
    differentiable_weights,
    find_layers,
    float_note,
    float_weights,
    pinned_bits,
    untouched,
)
from fairquant.bits.multiplications import count_multiplications
from fairquant.errors import UserError


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "deit_tiny_patch16_224", "tiny_vit_5m_224"])
def test_the_papers_models_have_layers_to_quantize(registry, name):
    from fairquant.bits import find_layers
    from fairquant.recipe.sections import ModelSettings
    from fairquant.runs.models import build_model

    model, _, _ = build_model(ModelSettings(name=name), 8)
    layers = find_layers(model, "channel")
    quantized = sum(layer.weight.numel() for layer in layers)
    assert quantized > 0.96 * sum(parameter.numel() for parameter in model.parameters())


def test_every_conv_and_linear_is_a_layer_in_order_and_tied_weights_are_one(strange):
    layers = find_layers(strange, "channel")
    assert [layer.name for layer in layers][:4] == ["stem", "grouped", "depthwise", "first"]
    assert next(layer for layer in layers if layer.name == "first").names == ("first", "second")
    assert "norm" not in [layer.name for layer in layers]


def test_a_pattern_leaves_layers_out_and_a_tied_weight_as_a_whole(strange):
    names = {layer.name for layer in find_layers(strange, "channel", ("sec*", "stem"))}
    assert not names & {"first", "stem"}
    with pytest.raises(UserError, match=r"quantize.keep: 'hed' matches no layer. Did you mean 'head'\?"):
        find_layers(strange, "channel", ("hed",))
    with pytest.raises(UserError, match="no weight left to quantize"):
        find_layers(nn.Sequential(nn.Linear(2, 2)), "channel", ("0",))


def test_of_two_patterns_that_pin_a_layer_the_later_wins(strange):
    layers = find_layers(strange, "tensor")
    assert pinned_bits(layers, {"*": 4, "head": 8})["head"] == 8
    assert pinned_bits(layers, {"second": 2}) == {"first": 2}  # the tied weight, by either name
    with pytest.raises(UserError, match="quantize.pin: 'nowhere' matches no layer"):
        pinned_bits(layers, {"nowhere": 2})


def test_a_name_with_the_characters_of_patterns_matches_itself():
    model = nn.ModuleDict({"cell[0]": nn.Linear(2, 2), "cell[1]": nn.Linear(2, 2)})
    assert [layer.name for layer in find_layers(model, "channel", ("cell[0]",))] == ["cell[1]"]
    assert pinned_bits(find_layers(model, "channel"), {"cell[1]": 2}) == {"cell[1]": 2}


def test_a_model_that_is_measured_is_left_as_it_was(strange):
    strange.train()
    strange.norm.eval()
    before = {name: value.clone() for name, value in strange.state_dict().items()}
    modes, state = [module.training for module in strange.modules()], torch.get_rng_state()
    with untouched(strange):
        assert not strange.training
        strange.train()(torch.randn(4, 3, 8, 8)).sum().backward()
        strange.head.requires_grad_(False)
    assert [module.training for module in strange.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in strange.state_dict().items())
    assert strange.head.weight.requires_grad
    assert all(parameter.grad is None for parameter in strange.parameters())


def test_gradients_are_taken_of_the_layers_weights_alone(strange):
    layers = find_layers(strange, "channel")
    with differentiable_weights(strange, layers) as weights:
        assert {id(weight) for weight in weights} == {id(p) for p in strange.parameters() if p.requires_grad}
    assert not strange.frozen.weight.requires_grad
    assert strange.norm.weight.requires_grad


def test_a_backward_pass_inside_leaves_the_gradients_from_before():
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()
    with untouched(model):
        model(torch.ones(1, 2)).sum().backward()
    assert torch.equal(model.weight.grad, before)


def test_what_stays_in_float_is_counted_and_named():
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 2))
    layers = find_layers(network, "channel", ("0",))
    assert float_weights(network, layers) == {"0.weight": 36}
    assert float_note(network, layers) == (
        "1 weight tensor(s) with 69.2 % of all weights are not quantized and stay in float32: 0.weight (Conv1d)"
    )
    assert float_note(network, find_layers(network, "channel")) == ""
    vector = nn.Module()
    vector.flat, vector.bias, vector.head = nn.Parameter(torch.zeros(24)), nn.Parameter(torch.zeros(3)), nn.Linear(8, 3)
    vector.forward = lambda images: vector.head(images[:, :3, 0, 0] @ vector.flat.view(3, 8)) + vector.bias
    multiplied = count_multiplications(vector, torch.zeros(1, 3, 4, 4))[0].keys()
    assert multiplied == {"flat", "head.weight"}
    layers = find_layers(vector, "channel", (), multiplied)
    assert float_weights(vector, layers, multiplied) == {"flat": 24}
