"""Which weights of a network are quantized, and in which units."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "deit_tiny_patch16_224", "tiny_vit_5m_224"])
def test_the_papers_models_have_layers_to_quantize(registry, name):
    from fairquant.bits import find_layers
    from fairquant.recipe.sections import ModelSettings
    from fairquant.runs.models import build_model

    model, _, _ = build_model(ModelSettings(name=name), 8)
    layers = find_layers(model, "channel")
    quantized = sum(layer.weight.numel() for layer in layers)
    assert quantized > 0.96 * sum(parameter.numel() for parameter in model.parameters())
