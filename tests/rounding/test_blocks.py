"""Blocks of a network: which they are, what a rounding is shown of them, and that the layers behind see what became of them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import timm
import torch
from fairquant_fair.block_rounding import Block
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from helpers.rounding import batches, rounder
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.errors import PluginFailed
from fairquant.roles import Rounded
from fairquant.rounding.blocks import by_image, cloned, find_blocks


def names_of(network) -> list[str]:
    return [block.name for block in find_blocks(network, find_layers(network, "channel"))]


@pytest.mark.parametrize(
    ("model", "count", "first", "last"),
    [
        ("deit_tiny_patch16_224", 12, "blocks.0", "blocks.11"),
        ("resnet18", 8, "layer1.0", "layer4.1"),
        ("convnext_atto", 12, "stages.0.blocks.0", "stages.3.blocks.1"),
        ("swin_tiny_patch4_window7_224", 12, "layers.0.blocks.0", "layers.3.blocks.1"),
        ("mobilenetv3_small_100", 11, "blocks.0.0", "blocks.4.2"),
    ],
)
def test_the_blocks_of_usual_networks(model, count, first, last):
    found = names_of(timm.create_model(model, num_classes=2))
    assert (len(found), found[0], found[-1]) == (count, first, last)


def test_a_network_without_blocks_is_one_and_torchs_transformer_has_its_layers():
    assert names_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))) == [""]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    assert names_of(encoder) == ["layers.0", "layers.1"]
    assert names_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) == []  # one layer is no block


class Residual(nn.Module):
    """A block that writes into its input, and takes a further argument by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8, bias=False)

    def forward(self, x, *, scale):
        return F.relu_(x) * scale + self.second(F.gelu(self.first(x)))


class Deep(nn.Module):
    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks, self.head = nn.ModuleList(Residual() for _ in range(depth)), nn.Linear(8, 3)

    def forward(self, images):
        x = self.stem(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, scale=1.5)
        return self.head(x.mean(1))


class Looks:
    """Keeps what it is shown of blocks."""

    needs = frozenset({"inputs"})

    def __init__(self, answer=lambda problem: {}) -> None:
        self.layers, self.blocks, self.answer = {}, {}, answer

    def round(self, problem):
        self.layers[problem.layer] = problem
        return Rounded(weight=problem.grid, bias=problem.weight.mean(1) if problem.has_bias else None)

    def round_block(self, problem):
        self.blocks[problem.name] = problem
        self.outputs = [problem.run(number, self.stored(problem)) for number in range(len(problem.targets))]
        return self.answer(problem)

    @staticmethod
    def stored(problem):
        return {name: (each.weight.decode().flatten(1), each.bias) for name, each in problem.rounded.items()}


def test_a_block_is_shown_with_its_inputs_now_and_its_output_in_full_precision():
    torch.manual_seed(0)
    network, looks = Deep().eval(), Looks()
    full = copy.deepcopy(network)
    rounder(network, looks).round(batches())
    assert list(looks.blocks) == ["blocks.0", "blocks.1", "blocks.2"]
    problem, seen = looks.blocks["blocks.2"], {}
    for which, model in (("now", network), ("full", full)):
        handle = model.blocks[2].register_forward_hook(
            lambda module, inputs, output, key=which: seen.update({key: output})
        )
        with torch.no_grad():
            model(batches()[1].images)
        handle.remove()
    assert torch.allclose(problem.targets[1], seen["full"].flatten(1), atol=1e-6)
    assert torch.allclose(looks.outputs[1], seen["now"].flatten(1), atol=1e-6)
    assert torch.equal(problem.groups[1], batches()[1].groups)
    assert set(problem.layers) == set(problem.rounded) == {"blocks.2.first", "blocks.2.second"}


def test_gradients_reach_weights_and_biases_of_a_block():
    slopes = {}

    def answer(problem):
        given = {name: (w.requires_grad_(True), None if b is None else b.requires_grad_(True)) for name, (w, b) in
                 Looks.stored(problem).items()}  # fmt: skip
        (problem.run(0, given) - problem.targets[0]).square().sum().backward()
        slopes[problem.name] = [each.grad for pair in given.values() for each in pair if each is not None]
        return {}

    rounder(Deep(1).eval(), Looks(answer)).round(batches())
    assert [float(each.abs().sum()) > 0 for each in slopes["blocks.0"]] == [True] * 3


def test_the_layers_behind_a_block_see_what_became_of_it():
    torch.manual_seed(0)

    def zero(problem):
        return {
            name: Rounded(weight=problem.rounded[name].weight.__class__(**{
                **problem.rounded[name].weight.__dict__, "codes": torch.zeros_like(problem.rounded[name].weight.codes)
            }))
            for name in problem.layers
        }  # fmt: skip

    network, looks = Deep(2).eval(), Looks(zero)
    found = rounder(network, looks).round(batches())
    assert not found["blocks.0.first"].weight.codes.any()
    assert found["blocks.0.first"].bias is None  # and the bias is that of full precision again
    seen = {}
    handle = network.blocks[1].first.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0].clone()))
    with torch.no_grad():
        network(torch.cat([batch.images for batch in batches()]))
    handle.remove()
    groups = torch.cat([batch.groups for batch in batches()])
    for group in (0, 1):
        x = seen["x"][groups == group].flatten(0, 1)
        assert torch.allclose(looks.layers["blocks.1.first"].inputs.moments[group, 0], x.T @ x / len(x), atol=1e-4)


@pytest.mark.parametrize("quantizer", [Uniform(), Baq(), CodebookEma()], ids=str)
def test_learning_brings_every_block_nearer_to_full_precision_and_ships_what_it_chose(quantizer, monkeypatch):
    torch.manual_seed(0)
    network, real, errors = Deep().eval(), Block.round_block, []

    def error(problem, rounded) -> float:
        values = {name: (each.weight.decode().flatten(1), each.bias) for name, each in rounded.items()}
        with torch.no_grad():
            return sum(
                float((problem.run(n, values) - target).square().sum()) for n, target in enumerate(problem.targets)
            )

    def watched(self, problem):
        found = real(self, problem)
        errors.append((error(problem, problem.rounded), error(problem, {**problem.rounded, **found})))
        return found

    monkeypatch.setattr(Block, "round_block", watched)
    found = rounder(network, Block(steps=90), 2, quantizer=quantizer).round(batches(6))
    assert len(errors) == 3
    assert all(after < before for before, after in errors)
    for layer in find_layers(network, "channel"):
        assert torch.equal(layer.weight, found[layer.name].weight.decode())


def test_a_run_that_was_stopped_within_a_block_does_the_block_again():
    torch.manual_seed(0)
    full = Deep(2).eval()
    rounding, whole = Block(steps=6), copy.deepcopy(full)
    said: list[str] = []
    expected = rounder(whole, rounding, on_layer=lambda name, rounded: said.append(name)).round(batches())
    assert said == ["stem", "blocks.0.first", "blocks.0.second", "blocks.1.first", "blocks.1.second", "head"]
    partly = {name: expected[name] for name in ("stem", "blocks.0.first", "blocks.0.second", "blocks.1.first")}
    resumed = copy.deepcopy(full)
    rounder(resumed, rounding, known=partly).round(batches())
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda problem: None, r"block 'blocks.0': round_block\(\) returned NoneType, a mapping is wanted"),
        (lambda problem: {"other": None}, "no layer of the block is called other"),
        (lambda problem: {"blocks.0.first": 3}, "layer 'blocks.0.first': round.* returned int"),
    ],
)
def test_what_a_rounding_makes_of_a_block_is_checked(answer, message):
    with pytest.raises(PluginFailed, match=message):
        rounder(Deep(1).eval(), Looks(answer), name="theirs").round(batches())


def test_outputs_are_separated_by_image_whatever_holds_them():
    windows, tokens_first = torch.randn(12, 5), torch.randn(7, 4, 5)
    assert by_image(windows, 4).shape == (4, 15)
    assert torch.equal(by_image(tokens_first, 4), tokens_first.transpose(0, 1).reshape(4, -1))
    assert by_image((windows, {"more": [tokens_first]}), 4).shape == (4, 50)
    assert by_image(torch.randn(5, 3), 4) is None
    assert by_image("text", 4) is None
    given = {"x": (torch.ones(2), [torch.ones(1)]), "other": 3}
    copies = cloned(given)
    copies["x"][0].zero_(), copies["x"][1][0].zero_()
    assert given["x"][0].all()
    assert given["x"][1][0].all()
    assert copies["other"] == 3


class Activated(nn.Module):
    """A block that begins with an activation, in place or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.activation, self.first, self.second = nn.SiLU(inplace=inplace), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, *, scale):
        return self.second(F.relu(self.first(self.activation(x)))) * scale


def test_a_block_that_writes_into_its_input_becomes_what_it_does_without():
    states = []
    for inplace in (False, True):
        torch.manual_seed(0)
        network = Deep(2)
        network.blocks = nn.ModuleList(Activated(inplace) for _ in range(2))
        rounder(network.eval(), Block(steps=15), 2).round(batches())
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


class Adds(nn.Module):
    """A block that changes its input, which the network goes on with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, *, scale):
        x.add_(self.second(F.relu(self.first(x.clone()))) * scale)
        return x.mean(1, keepdim=True)


class Goes(Deep):
    def forward(self, images):
        x = self.stem(images).flatten(2).transpose(1, 2) * 1.0
        y = [block(x, scale=0.5) for block in self.blocks]
        return self.head((x + sum(y)).mean(1))


def test_what_a_block_writes_into_its_input_reaches_the_layers_behind_it():
    torch.manual_seed(0)
    network, looks = Goes(2), Looks()
    network.blocks = nn.ModuleList(Adds() for _ in range(2))
    looks.answer = lambda problem: {
        name: Rounded(weight=replace(each.weight, codes=torch.zeros_like(each.weight.codes)))
        for name, each in problem.rounded.items()
    }
    rounder(network.eval(), looks).round(batches())  # which compares with the network's own pass at the end
    assert not network.blocks[1].first.weight.any()


def test_the_hooks_of_a_block_are_called_once():
    torch.manual_seed(0)
    network, looks = Deep(2).eval(), Looks()
    network.blocks[0].register_forward_hook(lambda module, inputs, output: output * 2)
    network.blocks[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    full, seen = copy.deepcopy(network), {}
    rounder(network, looks).round(batches())
    for which, model in (("now", network), ("full", full)):
        handle = model.blocks[1].register_forward_hook(
            lambda module, inputs, output, key=which: seen.update({key: output})
        )
        with torch.no_grad():
            model(batches()[0].images)
        handle.remove()
    assert torch.allclose(looks.blocks["blocks.1"].targets[0], seen["full"].flatten(1), atol=1e-5)
    assert torch.allclose(looks.outputs[0], seen["now"].flatten(1), atol=1e-5)
    assert all(len(block._forward_hooks) + len(block._forward_pre_hooks) == 1 for block in network.blocks)


@pytest.mark.parametrize("kind", ["unused layer", "detached", "gate", "no_grad"])
def test_blocks_without_some_or_all_gradients_are_rounded_and_counted(kind):
    class Strange(Residual):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(8, 8)

        def forward(self, x, *, scale):
            if kind == "detached":
                return super().forward(x, scale=scale).detach() + self.other(x).detach()
            if kind == "no_grad":
                with torch.no_grad():
                    return super().forward(x, scale=scale) + self.other(x)
            found = self.other(x)
            return super().forward(x, scale=scale) * (1 if kind == "unused layer" else (found > 0))

    torch.manual_seed(0)
    network = Deep(2)
    network.blocks = nn.ModuleList(Strange() for _ in range(2))
    made = rounder(network.eval(), Block(steps=9), 2)
    found = made.round(batches())
    assert len(found) == 8
    reason = "no gradient reaches their weights from their output"
    assert (made.blocks == dict.fromkeys(("blocks.0", "blocks.1"), reason)) == (kind in ("detached", "no_grad"))
