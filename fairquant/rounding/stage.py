"""Round every layer of a network, one after the other, with the inputs that the rounded layers before it give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.data.ranks import rank, world_size
from fairquant.errors import PluginFailed, UserError
from fairquant.roles import Batch, BitPlan, Layer, QuantizedWeight, Quantizer
from fairquant.roles.quantizer import codes_fit
from fairquant.roles.rounding import LayerInputs, Rounded, Rounding, RoundingProblem
from fairquant.rounding.in_step import InStep
from fairquant.rounding.moments import InputSums


@dataclass(frozen=True, kw_only=True)
class Rounder:
    """What rounds the layers of one network in place.

    known: layers that an earlier process had rounded, which are taken as they are. on_layer(name, rounded): called for every layer
    that is done, in the network's order.
    """

    network: nn.Module
    layers: tuple[Layer, ...]
    quantizer: Quantizer
    plan: BitPlan
    choices: tuple[int, ...]
    rounding: Rounding
    group_names: tuple[str, ...]
    name: str = "rounding"
    known: Mapping[str, Rounded] = field(default_factory=dict)
    on_layer: Callable[[str, Rounded], None] = lambda name, rounded: None
    _done: dict[str, Rounded] = field(default_factory=dict)

    def round(self, batches: Iterable[Batch]) -> dict[str, Rounded]:
        """Every layer's weight becomes its rounded one, in the network itself; biases are changed with them. Layer name -> what it
        became."""
        left = dict(enumerate(self.layers))
        if self.rounding.needs and any(layer.name not in self.known for layer in self.layers):
            self._round_in_step(list(batches), left)
        for number in list(left):
            self._round_layer(left.pop(number), None)
        return {layer.name: self._done[layer.name] for layer in self.layers}

    def _round_in_step(self, batches: Sequence[Batch], left: dict[int, Layer]) -> None:
        """Every layer that the network multiplies with."""
        images = [batch.images for batch in batches]
        groups = [batch.groups for batch in batches]
        with ExitStack() as stack:
            stack.enter_context(untouched(self.network))
            steps = stack.enter_context(InStep(self.network, images, self.layers))
            full = None
            if "drift" in self.rounding.needs:
                original = copy.deepcopy(self.network)
                full = stack.enter_context(InStep(original, images, _same_layers(original, self.layers)))
                full.start()
            steps.start()
            while (number := steps.layer()) is not None:
                known = self.layers[number].name in self.known
                self._round_layer(left.pop(number), None if known else self._inputs(steps, full, number, groups))
                steps.done(number)
                if full is not None:
                    full.done(number)

    def _inputs(self, steps: InStep, full: InStep | None, number: int, groups: Sequence[Tensor]) -> LayerInputs | None:
        """What a layer sees; None where its inputs cannot be separated by image."""
        sums = InputSums(len(self.group_names))
        others = {} if full is None else dict(full.waiting(number))
        for batch, product in steps.waiting(number):
            columns = product.columns(len(groups[batch]))
            if columns is None:
                return None
            other = others[batch].columns(len(groups[batch])) if batch in others else None
            sums.add(columns, groups[batch], product.weight.flatten(1), other)
        found = sums.result()
        if found is not None and not bool(torch.isfinite(found.moments).all()):
            raise UserError(
                f"layer {self.layers[number].name!r}: its inputs are not finite on calibration images: it cannot be rounded by them"
            )
        return found

    @torch.no_grad()
    def _round_layer(self, layer: Layer, inputs: LayerInputs | None) -> None:
        found = self.known.get(layer.name) or self._rounded(layer, inputs)
        self._done[layer.name] = found
        layer.weight.copy_(found.weight.decode().to(layer.weight))
        if found.bias is not None:
            for bias in _biases(layer):
                bias.add_(found.bias.to(bias))
        self.on_layer(layer.name, found)

    def _rounded(self, layer: Layer, inputs: LayerInputs | None) -> Rounded:
        weight, bits = layer.weight.detach(), self.plan.bits[layer.name]
        built = self.quantizer.build(weight, bits, self.choices).to(weight.device)
        built.freeze(bits)
        problem = RoundingProblem(
            layer=layer.name, weight=weight.flatten(1).clone(), grid=built.eval().encode(weight), groups=self.group_names,
            inputs=inputs, has_bias=bool(_biases(layer)),
        )  # fmt: skip
        found: object = self.rounding.round(problem)
        check_rounded(found, problem, self.name)
        assert isinstance(found, Rounded)
        return found


def share_of_rank(batches: list[Batch]) -> list[Batch]:
    """This rank's batches; all of them where there are fewer than ranks."""
    return batches if len(batches) < world_size() else batches[rank() :: world_size()]


def _biases(layer: Layer) -> list[Tensor]:
    """The bias of each module of a layer, once; none where one of them has none."""
    if len(layer.modules) > 1 or layer.own_names[0] != "weight":
        return []
    bias = getattr(layer.modules[0], "bias", None)
    return [bias] if isinstance(bias, Tensor) and len(bias) == layer.rows else []


def _same_layers(network: nn.Module, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of a copy of their network."""
    modules = dict(network.named_modules())
    found = []
    for layer in layers:
        owners = [path.rpartition(".")[0] for path in layer.parameters]
        found.append(Layer(layer.names, tuple(modules[owner] for owner in owners), layer.unit, layer.paths))
    return tuple(found)


def check_rounded(found: object, problem: RoundingProblem, name: str) -> None:
    """Raises PluginFailed unless a rounding returned codes that fit the grid's bits."""
    who, wanted = f"rounding {name!r}: layer {problem.layer!r}", problem.grid
    if not isinstance(found, Rounded) or not isinstance(found.weight, QuantizedWeight):
        raise PluginFailed(f"{who}: round() returned {type(found).__name__}, a Rounded is wanted")
    weight = found.weight
    if weight.codes.shape != wanted.codes.shape or weight.codes.dtype != torch.int8 or weight.shape != wanted.shape:
        raise PluginFailed(
            f"{who}: codes {weight.codes.dtype} {tuple(weight.codes.shape)}, int8 {tuple(wanted.codes.shape)} wanted"
        )
    if not torch.equal(weight.bits, wanted.bits):
        raise PluginFailed(f"{who}: the bits are not those of the plan")
    if outside := int((~codes_fit(weight)).sum()):
        raise PluginFailed(f"{who}: {outside} codes do not fit their bits")
    if not bool(torch.isfinite(weight.decode()).all()):
        raise PluginFailed(f"{who}: weights are NaN or infinite")
    if found.bias is not None and (found.bias.shape != weight.bits.shape or not bool(torch.isfinite(found.bias).all())):
        raise PluginFailed(
            f"{who}: the bias is {tuple(found.bias.shape)} or not finite, ({len(weight.bits)},) finite wanted"
        )
