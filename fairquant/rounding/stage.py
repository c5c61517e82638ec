"""Round every layer of a network, one after the other, with the inputs that the rounded layers before it give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fairquant.bits.layers import untouched
from fairquant.bits.products import Product
from fairquant.data.ranks import rank, world_size
from fairquant.errors import UserError
from fairquant.roles import (
    Batch,
    BitPlan,
    CannotLearn,
    Layer,
    QuantizedWeight,
    Quantizer,
    Rounded,
    Rounding,
    RoundingProblem,
    RoundsBlocks,
)
from fairquant.roles.rounding import LayerInputs
from fairquant.rounding.blocks import Block, find_blocks, tensors_in
from fairquant.rounding.checked import check_rounded, rounded_block
from fairquant.rounding.guidance import Guidance, guide
from fairquant.rounding.in_step import BlockEnd, InStep
from fairquant.rounding.moments import InputSums
from fairquant.rounding.placed import Placed, block_problem


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedNetwork:
    """layers: layer -> what it was rounded to; images: calibration images that were used for it, of all ranks; blocks: those that were
    rounded as a whole; None where one was learned, or the reason why it stays as its layers had been rounded."""

    layers: Mapping[str, Rounded]
    images: int
    blocks: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, QuantizedWeight]:
        """Layer -> what is stored of it."""
        return {name: each.weight for name, each in self.layers.items()}

    @property
    def learned(self) -> int:
        """Blocks that were learned."""
        return sum(reason is None for reason in self.blocks.values())

    @property
    def compensated(self) -> int:
        """Layers whose codes were chosen with what they see."""
        return sum(each.compensated for each in self.layers.values())


@dataclass(kw_only=True)
class Rounder:
    """What rounds the layers of one network in place.

    known: layers that an earlier process had rounded, which are taken as they are. on_layer(name, rounded): called for every layer
    that is done, in the network's order; the layers of a block that is rounded as a whole are done together, and before them it is
    in `blocks`: None where it was learned, or the reason why it stays as its layers had been rounded.
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
    blocks: dict[str, str | None] = field(default_factory=dict)
    _done: dict[str, Rounded] = field(default_factory=dict)
    _problems: dict[str, RoundingProblem] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def round(self, batches: Iterable[Batch]) -> dict[str, Rounded]:
        """Every layer's weight becomes its rounded one, in the network itself; biases are changed with them. Layer name -> what it
        became."""
        self._placed = [Placed(layer) for layer in self.layers]
        self._blocks = find_blocks(self.network, self.layers) if isinstance(self.rounding, RoundsBlocks) else ()
        self.known = self._usable()
        if self.rounding.needs and any(layer.name not in self.known for layer in self.layers):
            self._round_in_step(list(batches))
        for number, layer in enumerate(self.layers):
            if layer.name not in self._done:
                self._round_layer(number, None)
            self._say(layer.name)
        return {layer.name: self._done[layer.name] for layer in self.layers}

    def _usable(self) -> dict[str, Rounded]:
        """The layers that are known, but for those of blocks that are known in part only."""
        names = [[self.layers[number].name for number in block.layers] for block in self._blocks]
        partly = {name for block in names if not all(name in self.known for name in block) for name in block}
        return {name: each for name, each in self.known.items() if name not in partly}

    def _round_in_step(self, batches: Sequence[Batch]) -> None:
        """Every layer that the network multiplies with, and the blocks that end behind some of them."""
        images, groups = [batch.images for batch in batches], [batch.groups for batch in batches]
        in_blocks = {self.layers[number].name for block in self._blocks for number in block.layers}
        with ExitStack() as stack:
            stack.enter_context(untouched(self.network))
            steps = stack.enter_context(InStep(self.network, images, self.layers, self._blocks, again=True))
            both = [steps]
            if "drift" in self.rounding.needs or self._blocks:
                full = copy.deepcopy(self.network)
                both.append(
                    stack.enter_context(
                        InStep(full, images, _same_layers(full, self.layers), _same(full, self._blocks))
                    )
                )
            self._guidance = self._guide(batches)
            for each in reversed(both):
                each.start()
            while (stop := steps.next()) is not None:
                if isinstance(stop, BlockEnd):
                    self._round_block(stop.number, both, groups)
                    for each in both:
                        each.block_done(stop.number)
                    continue
                name = self.layers[stop.number].name
                self._round_layer(stop.number, None if name in self.known else self._inputs(both, stop.number, groups))
                if name not in in_blocks:
                    self._say(name)
                for each in both:
                    each.done(stop.number)
            self._check_turns(steps, images[0])

    def _check_turns(self, steps: InStep, images: Tensor) -> None:
        """A network that keeps tensors on itself between two layers would have mixed the batches, whose passes take turns."""
        with torch.no_grad():
            alone, once_more = ([*tensors_in(self.network(images))] for _ in range(2))
        if not _alike(alone, once_more):
            raise UserError(
                "the network gives other outputs each time, also in evaluation mode: it cannot be rounded by them"
            )
        if not _alike(alone, [*tensors_in(steps.passes[0].output)]):
            raise UserError(
                "the network gives other outputs where the passes of batches wait at its layers: it keeps tensors of one pass outside "
                "of it, or changes itself. Set rounding: null"
            )

    def _guide(self, batches: Sequence[Batch]) -> Guidance:
        """What the rounding asks for of gradients; nothing where it does not."""
        if "gradients" not in self.rounding.needs:
            return Guidance()
        return guide(self.network, self.layers, self._blocks, batches)

    def _inputs(self, both: Sequence[InStep], number: int, groups: Sequence[Tensor]) -> LayerInputs | None:
        """What a layer sees; None where its inputs cannot be separated by image."""
        sums = InputSums(len(self.group_names))
        drift = "drift" in self.rounding.needs
        others: dict[int, Product] = dict(both[1].waiting(number)) if drift else {}
        for batch, product in both[0].waiting(number):
            importance = self._guidance.positions.get((number, batch))
            if not sums.add(product, groups[batch], others.get(batch), importance):
                return None
        found = sums.result()
        if found is not None and not bool(torch.isfinite(found.moments).all()):
            raise UserError(
                f"layer {self.layers[number].name!r}: its inputs are not finite on calibration images: it cannot be rounded by them"
            )
        return found

    def _round_layer(self, number: int, inputs: LayerInputs | None) -> None:
        name = self.layers[number].name
        self._put(number, self.known.get(name) or self._rounded(number, inputs))

    def _rounded(self, number: int, inputs: LayerInputs | None) -> Rounded:
        layer = self.layers[number]
        weight, bits = layer.weight.detach(), self.plan.bits[layer.name]
        built = self.quantizer.build(weight, bits, self.choices).to(weight.device)
        built.freeze(bits)
        problem = RoundingProblem(
            layer=layer.name, weight=weight.flatten(1).clone(), grid=built.eval().encode(weight), groups=self.group_names,
            inputs=inputs, has_bias=self._placed[number].bias is not None,
        )  # fmt: skip
        self._problems[layer.name] = problem
        return check_rounded(self.rounding.round(problem), problem, self.name)

    def _round_block(self, number: int, both: Sequence[InStep], groups: Sequence[Tensor]) -> None:
        """The layers of a block once more, together; those that are known stay, and so does a block whose output cannot be
        separated by image."""
        block = self._blocks[number]
        numbers = [each for each in block.layers if self.layers[each].name in self._problems]
        placed = {self.layers[each].name: self._placed[each] for each in numbers}
        problem = block_problem(block, placed, dict(both[0].ended(number)), dict(both[1].ended(number)), groups)
        if placed and problem is not None:
            assert isinstance(self.rounding, RoundsBlocks)
            problem = replace(
                problem, layers={name: self._problems[name] for name in placed}, rounded={name: self._done[name] for name in placed},
                group_names=self.group_names, importance=self._guidance.elements.get(number),
            )  # fmt: skip
            shown, found = block.name or "the whole network", dict[str, Rounded]()
            try:
                found = dict(rounded_block(self.rounding, problem, self.name))
                self.blocks[shown] = None if found else "learning brought their outputs no nearer to full precision"
            except CannotLearn as reason:
                self.blocks[shown] = str(reason)
            for each in numbers:
                if (own := found.get(self.layers[each].name)) is not None:
                    self._put(each, own)
        for each in block.layers:
            self._say(self.layers[each].name)
            self._problems.pop(self.layers[each].name, None)

    def _put(self, number: int, rounded: Rounded) -> None:
        self._placed[number].put(rounded)
        self._done[self.layers[number].name] = rounded

    def _say(self, name: str) -> None:
        """A layer will not change any more."""
        if name in self._done and name not in self._said:
            self._said.add(name)
            self.on_layer(name, self._done[name])


def share_of_rank(batches: list[Batch]) -> list[Batch]:
    """This rank's batches; all of them where there are fewer than ranks."""
    return batches if len(batches) < world_size() else batches[rank() :: world_size()]


def _alike(outputs: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(outputs) == len(others) and all(
        one.shape == other.shape
        and torch.allclose(one, other, rtol=1e-2, atol=1e-3 * float(one.abs().max()), equal_nan=True)
        for one, other in zip(outputs, others, strict=True)
        if one.is_floating_point()
    )


def _same_layers(network: nn.Module, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers of a copy of their network."""
    modules = dict(network.named_modules())
    found = []
    for layer in layers:
        owners = [path.rpartition(".")[0] for path in layer.parameters]
        found.append(Layer(layer.names, tuple(modules[owner] for owner in owners), layer.unit, layer.paths))
    return tuple(found)


def _same(network: nn.Module, blocks: Sequence[Block]) -> list[Block]:
    """The blocks of a copy of their network."""
    modules = dict(network.named_modules())
    return [Block(block.name, modules[block.name], block.layers) for block in blocks]
