"""Techniques of few-bit training: averaged weights, frozen oscillations, bits that narrow or are planned anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from helpers.training import bound, small_network, small_split
from torch import nn

from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.attach import Attachment
from fairquant.bits.copies import copied
from fairquant.bits.problem import BitChoices, Budget
from fairquant.recipe.sections import EarlyStopping, TrainSettings
from fairquant.training.average import WeightAverage
from fairquant.training.loop import Trainer, train
from fairquant.training.optimizer import make_optimizer
from fairquant.training.oscillation import OscillationFreezing

SETTINGS = TrainSettings(epochs=4, batch_size=8, augment="none", learning_rate=0.01, workers=0)
QUANTIZERS = {"uniform": Uniform(), "learned": Uniform(scale="learned"), "baq": Baq()}


def attached(
    network: nn.Module, bits: int = 2, quantizer: str = "uniform", pinned: dict[str, int] | None = None
) -> Attachment:
    layers = find_layers(network, "channel")
    plan = plan_of(layers, torch.full((sum(layer.units for layer in layers),), bits))
    return attach(layers, QUANTIZERS[quantizer], plan, BitChoices(tuple(range(9)), pinned or {}), Budget(bits))


def trainer(quantizer: str = "uniform", bits: int = 2, **more) -> Trainer:
    network = small_network()
    attachment = attached(network, bits, quantizer)
    return Trainer(**{
        "model": bound(network), "train": small_split(32), "validation": small_split(8), "seed": 1, "checkpoint": None,
        "attachment": attachment, "replan": lambda: planned_by_size(attachment), **more,
    })  # fmt: skip


def planned_by_size(attachment: Attachment):
    """More bits for the units with the larger weights, as they are now."""
    sizes = torch.cat(
        [layer.per_unit(layer.weight.detach().flatten(1).abs().sum(1)[None])[0] for layer in attachment.layers]
    )
    return plan_of(attachment.layers, torch.where(sizes > sizes.median(), 3, 1))


def state(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.model.network.state_dict().items()}


class Stopped(Exception):
    pass


ALL = {
    "average": ("uniform", {"weight_average": 0.9}), "oscillation": ("learned", {"freeze_oscillating": 0.005, "learning_rate": 0.1}),
    "narrow": ("uniform", {"narrow_until": 0.5}), "replan": ("learned", {"replan": True}),
    "rounds": ("uniform", {"rounds": 2}),
    "together": ("learned", {"weight_average": 0.9, "freeze_oscillating": 0.005, "replan": True, "learning_rate": 0.1}),
    "learned bits": ("baq", {"weight_average": 0.9, "replan": True}),
}  # fmt: skip


@pytest.mark.parametrize("after", [2, 5, 9])
@pytest.mark.parametrize("which", ALL)
def test_a_training_that_was_stopped_resumes_to_the_same_weights(tmp_path, which, after):
    quantizer, options = ALL[which]
    settings = replace(SETTINGS, checkpoint_minutes=1e-9, **options)
    whole = trainer(quantizer)
    history = train(whole, settings)

    def stop(done, total):
        if done == after + 1:
            raise Stopped

    with pytest.raises(Stopped):
        train(trainer(quantizer, checkpoint=tmp_path / "train.pt", on_step=stop), settings)
    steps: list[int] = []
    resumed = trainer(quantizer, checkpoint=tmp_path / "train.pt", on_step=lambda done, total: steps.append(done))
    assert train(resumed, settings) == history
    assert steps[0] == after + 1
    one, other = state(whole), state(resumed)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("which", ALL)
def test_each_technique_changes_the_result(which):
    quantizer, options = ALL[which]
    plain, other = trainer(quantizer), trainer(quantizer)
    train(plain, replace(SETTINGS, learning_rate=options.get("learning_rate", SETTINGS.learning_rate)))
    train(other, replace(SETTINGS, **options))
    one, two = state(plain), state(other)
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_the_average_is_the_formula_and_is_what_is_measured_and_kept():
    network = nn.Linear(2, 1, bias=False)
    average = WeightAverage(network, 0.5)
    expected = network.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            network.weight += step
        average.after_step()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach()
    live = network.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(network.weight.detach(), expected)
    torch.testing.assert_close(network.weight.detach(), live)
    average.restart()
    average.swap()
    torch.testing.assert_close(network.weight.detach(), live)


def test_a_weight_that_oscillates_is_frozen_where_it_is_more_often_and_others_are_not():
    network = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.3, 0.8, -1.0]]))
    attachment = attached(network, bits=3)
    freezing = OscillationFreezing(attachment, threshold=0.02)
    (quantizer,), weight = attachment.quantizers, attachment.layers[0].weight
    code = lambda: quantizer.encode(weight).codes[0].tolist()
    step = float(quantizer.encode(weight).scale)
    for number in range(30):
        with torch.no_grad():  # the second weight: twice at 1, once at 2, over and over; the third moves once
            weight[0, 1] = (2 if number % 3 == 2 else 1) * step
            weight[0, 2] = (2 if number < 10 else 3) * step
        freezing.after_step()
    assert freezing.get_buffer("frozen0").tolist() == [[False, True, False, False]]
    with torch.no_grad():
        weight[0, 1] = 2 * step
    freezing.after_step()
    assert code()[1] == 1
    freezing.restart()
    assert not freezing.get_buffer("frozen0").any()


def test_a_frozen_sign_is_a_sign():
    network = nn.Sequential(nn.Linear(3, 1, bias=False))
    attachment = attached(network, bits=1)
    freezing = OscillationFreezing(attachment, threshold=0.005)
    weight = attachment.layers[0].weight
    for number in range(12):
        with torch.no_grad():
            weight[0, 0] = 0.4 if number % 2 else -0.4
        freezing.after_step()
    assert freezing.get_buffer("frozen0")[0, 0]
    stored = attachment.quantizers[0].encode(weight)
    assert stored.codes.abs().eq(1).all()


def test_bits_narrow_to_the_plan_and_no_wider_epoch_is_kept():
    seen = []
    narrowed = trainer(bits=2)
    narrowed = replace(narrowed, on_epoch=lambda epoch, values: seen.append(values["average-bits"]))
    train(narrowed, replace(SETTINGS, narrow_until=0.5, early_stopping=EarlyStopping(patience=9), learning_rate=1e-9))
    assert seen == [8.0, 5.0, 2.0, 2.0]
    assert narrowed.attachment.average() == 2.0


def test_learned_bits_never_cost_more_than_the_budget_and_still_move():
    made, spent = trainer("baq"), []

    def look(done, total):
        rounded = [
            q.bits().round().sum() * layer.unit_size
            for q, layer in zip(made.attachment.quantizers, made.attachment.layers, strict=True)
        ]
        spent.append(float(sum(rounded).detach()))

    settings = replace(SETTINGS, bit_learning_rate_scale=100, bit_confidence=0, freeze_bits_after=1.0)
    train(replace(made, on_step=look), settings)
    weights = sum(layer.weight.numel() for layer in made.attachment.layers)
    assert max(spent) <= 2 * weights
    assert made.attachment.average() <= 2
    bits = torch.cat([quantizer.bits() for quantizer in made.attachment.quantizers])
    assert len(bits.unique()) > 1


def test_learned_bits_that_narrow_are_held_once_they_have():
    averages = []
    narrowed = replace(trainer("baq"), on_epoch=lambda epoch, values: averages.append(values["average-bits"]))
    train(narrowed, replace(SETTINGS, narrow_until=0.5, learning_rate=1e-9))
    assert averages[0] > 7
    assert averages[1] > 4
    assert max(averages[2:]) <= 2


def test_bits_narrow_only_over_widths_that_the_recipe_allows():
    network = small_network()
    layers = find_layers(network, "channel")
    plan = plan_of(layers, torch.full((8,), 2))
    attachment = attach(layers, Uniform(), plan, BitChoices((2, 4, 8)), Budget(2.0))
    seen = []
    train(
        trainer(
            model=bound(network),
            attachment=attachment,
            on_epoch=lambda epoch, values: seen.append(values["average-bits"]),
        ),
        replace(SETTINGS, epochs=6, narrow_until=0.8),
    )
    assert seen == [8.0, 8.0, 4.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_bits_are_planned_anew_for_the_weights_as_they_are_then_and_fixed_in_time(quantizer):
    made = trainer(quantizer)
    asked, averages = [], []

    def replan():
        plan = planned_by_size(made.attachment)
        asked.append(plan)
        return plan

    watched = replace(made, replan=replan, on_epoch=lambda epoch, values: averages.append(values["average-bits"]))
    train(watched, replace(SETTINGS, replan=True, freeze_bits_after=0.5))
    assert len(asked) == 2  # after the first and the second of four epochs
    shipped = {
        layer.name: q.bits().long() for layer, q in zip(made.attachment.layers, made.attachment.quantizers, strict=True)
    }
    if quantizer == "baq":  # goes on learning from there, within the budget, which this plan exceeds
        assert asked[-1].average > 2 >= made.attachment.average()
    else:
        assert all(torch.equal(shipped[name], asked[-1].bits[name]) for name in shipped)
    assert averages[0] == pytest.approx(2.0, abs=0.03)  # BAQ's logits stay within 1 % of the ends


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_other_bits_mean_another_grid_for_the_weight_as_it_is(quantizer):
    network = small_network()
    attachment = attached(network, 2, quantizer, pinned={"5": 2})
    first, last = attachment.layers
    with torch.no_grad():
        first.weight.mul_(3.0)
    assert attachment.change_bits({first.name: torch.full((6,), 4), last.name: torch.full((2,), 4)})
    fresh = QUANTIZERS[quantizer].build(first.weight.detach(), torch.full((6,), 4), attachment.choices.free)
    assert torch.equal(attachment.quantizers[0].encode(first.weight).decode(), fresh.encode(first.weight).decode())
    assert attachment.quantizers[1].bits().tolist() == [2.0, 2.0]  # pinned
    assert attachment.quantizers[0].learns_bits == (quantizer == "baq")
    assert not attachment.change_bits({first.name: torch.full((6,), 4)})  # they are the same already


@pytest.mark.parametrize("quantizer", ["uniform", "baq"])
def test_units_that_keep_their_bits_keep_their_grid(quantizer):
    network = small_network()
    attachment = attached(network, 2, quantizer)
    first = attachment.layers[0]
    with torch.no_grad():  # trained on: a grid fitted anew would clip elsewhere
        first.weight.mul_(torch.linspace(0.1, 3.0, first.weight[0].numel()).view_as(first.weight[0]))
    before = attachment.quantizers[0].encode(first.weight)
    bits = torch.tensor([2, 4, 2, 2, 4, 2])
    assert attachment.change_bits({first.name: bits})
    after = attachment.quantizers[0].encode(first.weight)
    fresh = QUANTIZERS[quantizer].build(first.weight.detach(), bits, attachment.choices.free).encode(first.weight)
    moved = bits != 2
    assert after.bits.tolist() == bits.tolist()
    assert torch.equal(after.decode()[~moved], before.decode()[~moved])
    assert torch.equal(after.decode()[moved], fresh.decode()[moved])
    assert not torch.equal(fresh.decode()[~moved], before.decode()[~moved])


@pytest.mark.parametrize("quantized", [False, True])
def test_a_copy_without_quantizers_has_the_weights_under_them_or_theirs_and_leaves_the_network_alone(quantized):
    network = small_network()
    plain = small_network()
    attachment = attached(network)
    images = torch.randn(4, 3, 8, 8)
    before = network.eval()(images)
    copy = copied(network, quantized)
    torch.testing.assert_close(copy(images), before if quantized else plain.eval()(images))
    assert torch.allclose(before, copy(images)) == quantized
    torch.testing.assert_close(network(images), before)
    with torch.no_grad():
        copy[0].weight.zero_()
    torch.testing.assert_close(network(images), before)
    attachment.detach()
    assert type(network[0]) is nn.Conv2d
    assert type(copy[0]) is nn.Conv2d


def test_scales_and_bits_have_rates_of_their_own():
    network = small_network()
    attached(network, quantizer="learned")
    settings = replace(SETTINGS, step_size_learning_rate_scale=0.1)
    rates = {id(p): group["lr"] for group in make_optimizer(network, settings).param_groups for p in group["params"]}
    named = dict(network.named_parameters())
    scales = [name for name in named if name.endswith("log_scale")]
    assert len(scales) == 2
    assert {rates[id(named[name])] for name in scales} == {0.1 * settings.learning_rate}
    assert {rates[id(named[name])] for name in named if name not in scales} == {settings.learning_rate}


def test_without_weight_the_labels_teach_nothing():
    before, trained = trainer(), trainer()
    train(trained, replace(SETTINGS, label_weight=0.0, weight_decay=0.0))
    one, two = state(before), state(trained)
    assert all(torch.equal(one[name], two[name]) for name in one if "running" not in name and "num_batches" not in name)
