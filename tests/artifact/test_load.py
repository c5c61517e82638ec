"""The model back from its file, exactly, and only where it fits."""

from __future__ import annotations

import copy

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from helpers.artifacts import METADATA, quantized, saved

import fairquant
from fairquant.artifact.save import save_artifact, unquantized_state
from fairquant.errors import UserError


@pytest.mark.parametrize(
    "quantizer", [Uniform("absmax"), Uniform("mse"), Uniform("learned"), Baq(), Baq("step", "absmax"), CodebookEma()]
)
def test_logits_after_loading_are_identical_for_a_strange_module(tmp_path, strange, quantizer):
    fresh = copy.deepcopy(strange)
    path, _, _ = saved(tmp_path, strange, quantizer)
    images = torch.randn(4, 3, 8, 8)
    for parameter in fresh.parameters():
        parameter.data.normal_()
    loaded = fairquant.load(path, model=fresh)
    assert torch.equal(loaded(images), strange.eval()(images))
    assert loaded.first.weight is loaded.second.weight
    assert not loaded.training
    assert loaded.fairquant_metadata["classes"] == ["a", "b", "c"]


def test_layers_left_out_stay_in_full_precision(tmp_path, strange):
    fresh, original = copy.deepcopy(strange), strange.head.weight.detach().clone()
    path, attachment, _ = saved(tmp_path, strange, Uniform(), keep=("head", "stem"))
    assert "head" not in [layer.name for layer in attachment.layers]
    assert torch.equal(fairquant.load(path, model=fresh).head.weight, original)


def test_a_timm_model_comes_back_by_itself_and_within_the_size_law(tmp_path):
    import timm

    torch.manual_seed(1)
    model = timm.create_model("resnet18", num_classes=7)
    attachment = quantized(model, Uniform(), seed=2)
    metadata = METADATA | {
        "architecture": {"source": "timm", "name": "resnet18", "image_size": 64, "options": {}}, "classes": list("abcdefg"),
    }  # fmt: skip
    path = tmp_path / "model.safetensors"
    facts = save_artifact(path, model, attachment.layers, attachment.encode(), metadata)
    images = torch.randn(2, 3, 64, 64)
    model.eval()
    assert torch.equal(fairquant.load(path)(images), model(images))
    plan = attachment.project_to_budget()
    scales = 4 * sum(layer.rows for layer in attachment.layers)
    state = sum(t.numel() * t.element_size() for t in unquantized_state(model, attachment.layers).values())
    exact = plan.total_bits / 8 + scales + state
    assert facts["bytes"] == path.stat().st_size
    assert facts["bytes"] <= 1.02 * exact
    assert b"pickle" not in path.read_bytes()


def test_a_model_that_does_not_fit_is_refused_by_name(tmp_path, strange, small):
    path, _, _ = saved(tmp_path, strange, Uniform())
    with pytest.raises(UserError, match="the model has no 'stem.weight'"):
        fairquant.load(path, model=small)
    with pytest.raises(UserError, match="does not hold .no pickle.. Give it"):
        fairquant.load(path)


def test_a_file_that_does_not_fit_is_named_and_so_is_a_lazy_module(tmp_path, strange):
    path, _, _ = saved(tmp_path, strange, Uniform())
    with pytest.raises(UserError) as caught:
        fairquant.load(path, model=torch.nn.Linear(2, 3))
    assert caught.value.render().splitlines()[0] == f"10 problem(s) in {path}"
    with pytest.raises(UserError, match="the model's 'weight' has no shape yet: pass an image through it"):
        fairquant.load(path, model=torch.nn.LazyLinear(3))
