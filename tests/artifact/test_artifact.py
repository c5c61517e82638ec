"""The artifact: small, exact, and refused when anything about it is wrong."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from safetensors.torch import save_file
from torch import nn

import fairquant
from fairquant.artifact.save import save_artifact, unquantized_state
from fairquant.bits import attach, find_layers
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import UserError
from fairquant.roles import BitPlan

METADATA = {
    "architecture": {"source": "module", "class": "Strange"}, "classes": ["a", "b", "c"], "recipe": {}, "audit": {},
    "preprocessing": {"image_size": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "channels_last": False}, "plan": {},
}  # fmt: skip


def quantized(model: nn.Module, quantizer: object, seed: int = 0, keep: tuple[str, ...] = ()):
    torch.manual_seed(seed)
    layers = find_layers(model, "channel", keep)
    plan = BitPlan({l.name: torch.randint(9, (l.units,)) for l in layers}, {l.name: l.unit_size for l in layers})
    attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(8.0))
    attachment.project_to_budget()
    return attachment


def saved(tmp_path, model, quantizer, **options):
    attachment = quantized(model, quantizer, **options)
    path = tmp_path / "model.safetensors"
    return path, attachment, save_artifact(path, model, attachment.layers, attachment.encode(), METADATA)


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


def test_kept_layers_stay_in_full_precision(tmp_path, strange):
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


def test_the_same_model_gives_the_same_bytes(tmp_path, strange):
    other = copy.deepcopy(strange)
    path, _, facts = saved(tmp_path, strange, Uniform())
    first = path.read_bytes()
    _, _, again = saved(tmp_path, other, Uniform())
    assert path.read_bytes() == first
    assert facts == again


def test_any_altered_byte_is_refused(tmp_path, strange):
    path, _, _ = saved(tmp_path, strange, Baq())
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    places = {0, 7, 8, 9, 20, len(content) - 1, *draw.integers(0, len(content), 250).tolist()}
    header_end = 8 + int.from_bytes(content[:8], "little")
    places |= set(range(header_end - 6, header_end)) | {content.index(b'"checksum"') + 15}
    damaged = tmp_path / "damaged.safetensors"
    for place in places:
        for flip in (0x01, 0x80, ord(" ") ^ ord("\n")):
            altered = bytearray(content)
            altered[place] ^= flip
            damaged.write_bytes(altered)
            with pytest.raises(UserError, match="damaged"):
                fairquant.load(damaged, model=copy.deepcopy(strange))


def test_truncated_foreign_and_missing_files_say_what_is_wrong(tmp_path, strange):
    path, _, _ = saved(tmp_path, strange, Uniform())
    content = path.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for length, message in (
        (len(content) - 1, "cut off"),
        (200, "cut off"),
        (4, "not a safetensors file"),
        (0, "not a safetensors"),
    ):
        bad.write_bytes(content[:length])
        with pytest.raises(UserError, match=message):
            fairquant.load(bad)
    bad.write_bytes(content + b"x")
    with pytest.raises(UserError, match="longer than its header says"):
        fairquant.load(bad)
    save_file({"weight": torch.ones(2)}, bad)
    with pytest.raises(UserError, match="not made by fairquant"):
        fairquant.load(bad)
    save_file({"weight": torch.ones(2)}, bad, metadata={"format": "fairquant-9"})
    with pytest.raises(UserError, match="its format is 'fairquant-9', this version reads 'fairquant-1'"):
        fairquant.load(bad)
    bad.write_bytes(b"\x80\x04" + b"pickled" * 30)
    with pytest.raises(UserError, match="not a safetensors file"):
        fairquant.load(bad)
    with pytest.raises(UserError, match="cannot be read"):
        fairquant.load(tmp_path / "nowhere.safetensors")


def test_a_model_that_does_not_fit_is_refused_by_name(tmp_path, strange, small):
    path, _, _ = saved(tmp_path, strange, Uniform())
    with pytest.raises(UserError, match="the model has no 'stem.weight'"):
        fairquant.load(path, model=small)
    with pytest.raises(UserError, match="does not hold .no pickle.. Give it"):
        fairquant.load(path)


def test_metadata_is_readable_without_the_model(tmp_path, strange):
    from safetensors import safe_open

    path, _, _ = saved(tmp_path, strange, Uniform())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "c"]
        assert file.get_tensor("stem.weight").dtype == torch.uint8
