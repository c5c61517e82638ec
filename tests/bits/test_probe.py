"""What a plan costs each group, measured on the network, and measured once."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.uniform import Uniform
from helpers.importance import data
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.bits.probe import CachedProbe, LossProbe
from fairquant.roles import Batch


def test_the_probe_measures_the_quantized_network_and_leaves_it_as_it_was(strange):
    model, batch = strange.eval(), data(10, groups=2)
    batch = Batch(batch.images.float(), batch.labels, batch.groups)
    layers = find_layers(model, "channel")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = LossProbe(model=model, layers=layers, quantizer=Uniform(), batches=lambda: [batch], groups=3)
    units = sum(layer.units for layer in layers)
    full, low = probe(torch.full((units,), -1)), probe(torch.full((units,), 2))
    with torch.no_grad():
        losses = F.cross_entropy(model(batch.images), batch.labels, reduction="none").double()
    for group in range(2):
        assert float(full[group]) == pytest.approx(float(losses[batch.groups == group].mean()))
    assert torch.isnan(full[2])  # a group without images
    assert not torch.allclose(full[:2], low[:2])
    assert torch.equal(probe(torch.full((units,), 2))[:2], low[:2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_a_probe_measured_is_measured_once(strange, tmp_path, monkeypatch):
    model, batch = strange.eval(), data(10, groups=2)
    layers = find_layers(model, "channel")
    units = sum(layer.units for layer in layers)
    low, high = torch.full((units,), 2), torch.full((units,), 4)
    passes = []
    inner = LossProbe(
        model=model,
        layers=layers,
        quantizer=Uniform(),
        batches=lambda: [Batch(batch.images.float(), batch.labels, batch.groups)],
        groups=3,
    )
    real = LossProbe.outputs
    monkeypatch.setattr(LossProbe, "outputs", lambda self, bits: passes.append(1) or real(self, bits))

    def probe(about="uniform"):
        return CachedProbe(inner, tmp_path, about)

    first = probe()
    losses_at_2 = first(low)
    torch.testing.assert_close(losses_at_2, inner(low), equal_nan=True, rtol=0, atol=0)
    first.save()
    passes.clear()
    again = probe()
    assert torch.equal(again(low).nan_to_num(-1), losses_at_2.nan_to_num(-1))
    assert not passes
    again(high)
    again.save()
    probe()(low), probe()(high)
    assert len(passes) == 1  # both are known now
    probe("another quantizer")(low)
    with torch.no_grad():
        layers[0].weight.mul_(1.01)
    probe()(low)  # other weights: measured again
    assert len(passes) == 3
    for number, damage in enumerate(("{cut off", "[]", '{"answers": "{}", "checksum": "x"}', '{"answers": 3}')):
        for file in tmp_path.iterdir():
            file.write_text(damage)
        probe()(low)
        assert len(passes) == 4 + number


def test_a_probe_that_is_not_asked_writes_nothing(strange, tmp_path):
    CachedProbe(
        LossProbe(model=strange, layers=(), quantizer=Uniform(), batches=lambda: [], groups=1), tmp_path, ""
    ).save()
    assert not list(tmp_path.iterdir())


def test_units_at_different_bits_are_quantized_each_at_its_own(strange):
    layers = find_layers(strange, "channel")
    weight = layers[0].weight.detach()
    bits = torch.full((sum(layer.units for layer in layers),), -1)
    bits[:3] = torch.tensor([2, 4, 8])
    seen = []
    batch = data(4, groups=2)
    stream = lambda: (
        seen.append(layers[0].weight.detach().clone()) or [Batch(batch.images.float(), batch.labels, batch.groups)]
    )
    LossProbe(model=strange, layers=layers, quantizer=Uniform(), batches=stream, groups=2)(bits)
    for row, width in enumerate((2, 4, 8)):
        built = Uniform().build(weight, torch.full((len(weight),), width), (width,)).eval()
        assert torch.equal(seen[0][row], built(weight)[row])
    assert torch.equal(seen[0][3:], weight[3:])
