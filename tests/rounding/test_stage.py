"""Layers rounded in step: what each sees, in whatever network, and that nothing else changes."""

from __future__ import annotations

import copy
import threading

import pytest
import timm
import torch
from fairquant_fair.fair_gptq import FairGptq
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from fairquant_rivals.gptq import Gptq
from fairquant_rivals.nearest import Nearest
from helpers.rounding import batches, rounder
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.errors import PluginFailed, UserError
from fairquant.roles import Batch, Rounded


class Net(nn.Module):
    """Strides, dilation, groups, depthwise, tokens, and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.grouped, self.wide = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4, bias=False), nn.Conv2d(12, 8, 1)
        self.tokens, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, images):
        x = F.relu(self.stem(images))
        x = F.relu(x + self.depthwise(x))
        x = F.relu(self.wide(F.relu(self.grouped(x))))
        return self.head((x.flatten(2).transpose(1, 2) + F.gelu(self.tokens(x.flatten(2).transpose(1, 2)))).mean(1))


class Sees:
    """Keeps what it is shown; rounds to the nearest."""

    needs = frozenset({"inputs", "drift"})

    def __init__(self) -> None:
        self.problems = {}

    def round(self, problem):
        self.problems[problem.layer] = problem
        return Rounded(weight=problem.grid)


def test_a_layer_sees_the_inputs_that_the_rounded_layers_before_it_give():
    torch.manual_seed(0)
    network = Net().eval()
    full, sees = copy.deepcopy(network), Sees()
    rounder(network, sees).round(batches())
    images = torch.cat([batch.images for batch in batches()])
    groups = torch.cat([batch.groups for batch in batches()])
    seen: dict[str, tuple] = {}
    for name in ("tokens", "wide", "grouped", "depthwise", "stem"):
        for which, model in (("now", network), ("full", full)):
            handle = dict(model.named_modules())[name].register_forward_pre_hook(
                lambda module, inputs, key=(name, which): seen.update({key: inputs[0].detach()})
            )
            with torch.no_grad():
                model(images)
            handle.remove()
    for group in (0, 1):
        own = groups == group
        x, y = (seen["tokens", which][own].flatten(0, 1).double() for which in ("now", "full"))
        inputs = sees.problems["tokens"].inputs
        assert torch.allclose(inputs.moments[group, 0].double(), x.T @ x / len(x), atol=1e-4)
        assert torch.allclose(inputs.means[group, 0].double(), x.mean(0), atol=1e-4)
        assert torch.allclose(inputs.drift[group, 0].double(), (y - x).T @ x / len(x), atol=1e-4)
        assert inputs.images[group] == int(own.sum())
    for name in ("stem", "wide", "grouped", "depthwise"):  # the mean output of any convolution follows from the means
        inputs, module = sees.problems[name].inputs, dict(full.named_modules())[name]
        own = groups == 0
        with torch.no_grad():
            output = module(seen[name, "now"][own]) - (0 if module.bias is None else module.bias[:, None, None])
        rows = module.weight.flatten(1).view(inputs.means.shape[1], -1, module.weight[0].numel())
        expected = torch.einsum("srn,sn->sr", rows, inputs.means[0]).flatten()
        assert torch.allclose(output.mean((0, 2, 3)), expected, atol=1e-4), name


@pytest.mark.parametrize("quantizer", [Uniform(), Uniform("learned"), Baq(), CodebookEma()], ids=str)
@pytest.mark.parametrize("rounding", [Gptq(), FairGptq(rounds=1)], ids=["gptq", "fair-gptq"])
def test_the_network_is_nearer_to_full_precision_with_every_quantizer(quantizer, rounding):
    torch.manual_seed(0)
    full = Net().eval()
    images = torch.randn(64, 3, 16, 16)
    errors = []
    for each in (Nearest(), rounding):
        network = copy.deepcopy(full)
        found = rounder(network, each, quantizer=quantizer).round(batches(4))
        with torch.no_grad():
            errors.append(float((network(images) - full(images)).square().mean()))
        for layer in find_layers(network, "channel"):
            assert torch.equal(layer.weight, found[layer.name].weight.decode())
            assert found[layer.name].compensated == (each is rounding)
    assert errors[1] < errors[0]


def test_nothing_but_weights_and_biases_changes_and_no_thread_is_left():
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=3).train()
    before, threads = {name: value.clone() for name, value in network.state_dict().items()}, threading.active_count()
    rounder(network, Gptq()).round(batches(2, 4, 32))
    assert network.training
    assert threading.active_count() == threads
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{layer.name}.weight" for layer in find_layers(network, "channel")}


def test_the_same_images_in_other_batches_give_the_same_codes():
    torch.manual_seed(0)
    full, (images, labels, groups) = (
        Net().eval(),
        (torch.randn(24, 3, 16, 16), torch.zeros(24, dtype=torch.long), torch.arange(24) % 2),
    )
    results = []
    for size in (24, 8, 5):
        stream = [Batch(images[n : n + size], labels[n : n + size], groups[n : n + size]) for n in range(0, 24, size)]
        found = rounder(copy.deepcopy(full), Gptq()).round(stream)
        results.append(torch.cat([each.weight.codes.flatten() for each in found.values()]))
    assert (results[0] != results[1]).float().mean() < 0.01  # sums in another order
    assert (results[0] != results[2]).float().mean() < 0.01


class Attention(nn.Module):
    """torch's own attention, an embedding, a tied weight, a recurrent layer: what is seen and what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.first, self.second, self.rnn = nn.Linear(8, 8), nn.Linear(8, 8), nn.GRU(8, 8, batch_first=True)
        self.second.weight, self.head = self.first.weight, nn.Linear(8, 3)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.second(F.relu(self.first(x)))
        return self.head(self.rnn(x)[0].mean(1))


def test_torchs_attention_and_tied_weights_are_seen_and_recurrent_layers_are_counted():
    torch.manual_seed(0)
    network = Attention().eval()
    found = rounder(network, Gptq()).round(batches())
    alone = {name for name, each in found.items() if not each.compensated}
    assert alone == {"rnn.weight_hh_l0", "rnn.weight_ih_l0"}
    assert network.second.weight is network.first.weight


def test_a_layer_that_is_not_used_and_groups_without_images_do_no_harm():
    torch.manual_seed(0)
    network = Net().eval()
    network.unused = nn.Linear(4, 4)
    stream = [Batch(batch.images, batch.labels, torch.zeros_like(batch.groups)) for batch in batches()]
    for rounding in (Gptq(), FairGptq(rounds=2)):
        found = rounder(copy.deepcopy(network), rounding).round(stream)
        assert not found["unused"].compensated
        assert found["tokens"].compensated


@pytest.mark.parametrize("bits", [0, 1, 8])
@pytest.mark.parametrize("unit", ["channel", "tensor"])
def test_every_width_and_both_kinds_of_units(bits, unit):
    torch.manual_seed(0)
    network = Net().eval()
    for rounding in (Gptq(), FairGptq(rounds=1)):
        found = rounder(copy.deepcopy(network), rounding, bits, unit=unit).round(batches())
        assert all(set(each.weight.bits.tolist()) == {bits} for each in found.values())


def test_layers_that_are_known_are_taken_as_they_are(monkeypatch):
    torch.manual_seed(0)
    full = Net().eval()
    whole = copy.deepcopy(full)
    expected = rounder(whole, FairGptq(rounds=1)).round(batches())
    known = {name: each for name, each in expected.items() if name in ("stem", "depthwise", "grouped")}
    resumed, asked = copy.deepcopy(full), []
    real = FairGptq.round
    monkeypatch.setattr(FairGptq, "round", lambda self, problem: asked.append(problem.layer) or real(self, problem))
    rounder(resumed, FairGptq(rounds=1), known=known).round(batches())
    assert asked == ["wide", "tokens", "head"]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda problem: None, "returned NoneType, a Rounded is wanted"),
        (lambda problem: Rounded(weight=problem.grid, bias=torch.zeros(1)), "the bias is"),
        (
            lambda problem: Rounded(weight=problem.grid, bias=torch.full_like(problem.weight[:, 0], torch.nan)),
            "not finite",
        ),
    ],
)
def test_what_a_rounding_gives_is_checked_with_the_layers_name(answer, message):
    class Theirs:
        needs = frozenset()

        def round(self, problem):
            return answer(problem)

    with pytest.raises(PluginFailed, match=f"rounding 'theirs': layer 'stem'.*{message}"):
        rounder(Net().eval(), Theirs(), name="theirs").round(batches())


def test_an_error_in_the_network_passes_and_no_thread_is_left():
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images):
            if len(self.layer(images.mean((2, 3)))) == 8:
                raise ValueError("no")
            return images

    threads = threading.active_count()
    with pytest.raises(ValueError, match="no"):
        rounder(Fails(), Gptq()).round(batches())
    assert threading.active_count() == threads


class Keeps(nn.Module):
    """Keeps what it saw first, and uses it two layers later."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, images):
        self.seen = images.mean((2, 3))
        return self.second(F.relu(self.first(self.seen))) + 3 * self.seen


class Random(Net):
    def forward(self, images):
        return super().forward(images) + torch.randn(1)


def test_a_network_of_random_outputs_is_refused():
    with pytest.raises(UserError, match="other outputs each time"):
        rounder(Random().eval(), Gptq()).round(batches())


def test_a_network_that_keeps_tensors_outside_its_pass_is_refused_and_one_batch_is_fine():
    with pytest.raises(UserError, match="keeps tensors of one pass outside of it"):
        rounder(Keeps().eval(), Gptq()).round(batches(3))
    assert rounder(Keeps().eval(), Gptq()).round(batches(1))["second"].compensated


def test_inputs_that_are_not_finite_are_named_with_the_layer():
    network = Net().eval()
    stream = batches()
    stream[1].images[0, 0, 0, 0] = torch.inf
    with pytest.raises(UserError, match="layer 'stem': its inputs are not finite"):
        rounder(network, Gptq()).round(stream)
