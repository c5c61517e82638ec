"""Models: weights from a local file, from timm's own loader, and clear errors where there are none."""

from __future__ import annotations

import pytest
import timm
import torch
from helpers.recipes import write_recipe
from safetensors.torch import save_file

import fairquant
from fairquant.errors import UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.presets import library, recipes_folder
from fairquant.recipe.sections import ModelSettings
from fairquant.runs.models import build_model


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=1000)
    file = tmp_path / "weights.safetensors"
    save_file({name: value.half() for name, value in model.state_dict().items()}, file)
    return file, model


def test_local_weights_take_the_models_precision_and_a_head_of_another_size_is_replaced_with_a_note(weights):
    file, original = weights
    model, _, notes = build_model(ModelSettings(name="resnet10t", weights=str(file), pretrained=True), 5)
    assert torch.equal(model.layer1[0].conv1.weight, original.layer1[0].conv1.weight.half().float())
    assert model.fc.weight.shape[0] == 5
    assert model.fc.weight.dtype == torch.float32
    assert len(notes) == 2
    assert any("head 'fc.weight': (1000, 512)" in note for note in notes)


def test_position_embeddings_of_another_image_size_are_resampled_as_timm_does(tmp_path):
    original = timm.create_model("deit_tiny_patch16_224", num_classes=5)
    torch.nn.init.normal_(original.pos_embed)
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    settings = ModelSettings(name="deit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"), image_size=128)
    model, _, notes = build_model(settings, 5)
    own = timm.models.vision_transformer.checkpoint_filter_fn(original.state_dict(), model)
    assert torch.equal(model.pos_embed, own["pos_embed"])
    assert notes == ["'pos_embed': resampled from 197 to 65 positions"]


def test_a_pt_file_is_read_without_running_code(tmp_path, weights):
    _, original = weights
    torch.save({"state_dict": original.state_dict()}, tmp_path / "good.pt")
    model, _, notes = build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "good.pt")), 1000)
    assert torch.equal(model.fc.weight, original.fc.weight)
    assert notes == []

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read"):
        build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "evil.pt")), 5)
    torch.save(original, tmp_path / "whole.pt")
    with pytest.raises(UserError, match=r"such as a whole model.*save the tensors alone: torch.save\(model.state_dict"):
        build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "whole.pt")), 5)


def test_weights_that_do_not_fit_are_named(tmp_path, weights):
    file, _ = weights
    with pytest.raises(UserError, match="lacks .* of the model's tensors"):
        build_model(ModelSettings(name="resnet18", weights=str(file)), 5)
    with pytest.raises(UserError, match="no file 'nowhere.safetensors'"):
        build_model(ModelSettings(name="resnet10t", weights="nowhere.safetensors"), 5)
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected a .safetensors, .pt or .pth file"):
        build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "w.bin")), 5)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."])
def test_the_prefixes_of_a_wrapped_model_are_left_out(tmp_path, weights, prefix):
    _, original = weights
    wrapped = {f"{prefix}{name}": value for name, value in original.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "wrapped.pt")
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    for file in ("wrapped.pt", "wrapped.safetensors"):
        model, _, notes = build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / file)), 1000)
        assert torch.equal(model.fc.weight, original.fc.weight)
        assert notes == []


def test_a_network_that_is_no_classifier_is_refused_before_training(tmp_path):
    recipe = write_recipe(
        budget={"average_bits": 4}, model={"name": "test_vit", "image_size": 32, "options": {"global_pool": ""}}
    )
    with pytest.raises(UserError, match=r"'test_vit' cannot be used: of 2 images the model returns \(2, \d+, \d+\)"):
        fairquant.run(recipe, runs=tmp_path / "runs")


def test_pretrained_goes_through_timms_own_loader(tmp_path, weights):
    """The real path of `pretrained: true`, its download pointed at a local file."""
    _, original = weights
    torch.save(original.state_dict(), tmp_path / "hub.pth")
    options = {"pretrained_cfg_overlay": {"file": str(tmp_path / "hub.pth")}}
    model, _, _ = build_model(ModelSettings(name="resnet10t", pretrained=True, options=options), 5)
    assert torch.equal(model.layer1[0].conv1.weight, original.layer1[0].conv1.weight)


def test_an_unknown_model_is_suggested():
    with pytest.raises(UserError, match=r"timm has no model 'resnet81'. Did you mean 'resnet18'\?"):
        build_model(ModelSettings(name="resnet81"), 5)


def test_offline_weights_say_what_to_do(monkeypatch):
    import timm

    from fairquant.errors import UserError
    from fairquant.recipe.sections import ModelSettings
    from fairquant.runs.models import build_model

    def offline(*_, pretrained=False, **__):
        raise OSError("cannot reach the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"cannot be fetched .*set model.weights=FILE; or set model.pretrained=false"):
        build_model(ModelSettings(name="resnet18", pretrained=True), 3)


@pytest.mark.parametrize("name", list(library().recipes()))
def test_every_shipped_recipe_has_a_model_that_can_be_built(registry, name):
    from fairquant.runs.models import build_model

    recipe = read_recipe(recipes_folder() / name, ["model.pretrained=false", "model.weights=null"], registry=registry)
    model, normalize, _ = build_model(recipe.model, 5)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6
    assert len(normalize.mean) == 3


KINDS = {
    "sparse": lambda value: value.to_sparse(), "complex": lambda value: value.to(torch.complex64), "bool": lambda value: value > 0,
    "without content": lambda value: value.to("meta"), "quantized": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_cannot_be_weights_are_named_with_what_they_are(tmp_path, weights, kind):
    state = weights[1].state_dict()
    state["conv1.0.weight"] = KINDS[kind](state["conv1.0.weight"])
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=f"'conv1.0.weight' is {kind}"):
        build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "w.pt")), 1000)


@pytest.mark.parametrize("name", [3, ("a", "b")])
def test_names_that_are_no_text_are_no_state_dict(tmp_path, name):
    torch.save({name: torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="the name of a tensor is .*, not text"):
        build_model(ModelSettings(name="resnet10t", weights=str(tmp_path / "w.pt")), 2)
