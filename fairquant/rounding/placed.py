"""Layers in their network, with what their biases were before they were rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fairquant.roles import BlockProblem, Layer, Rounded
from fairquant.rounding.blocks import Block, by_image, cloned
from fairquant.rounding.in_step import BlockEnd


class Placed:
    """A layer in its network. bias: the parameter [R] that a change of the bias is added to; None where there is none, where
    several modules share the weight, and where the weight has another name."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        own = (
            getattr(layer.modules[0], "bias", None)
            if len(layer.modules) == 1 and layer.own_names[0] == "weight"
            else None
        )
        self.bias: nn.Parameter | None = own if isinstance(own, nn.Parameter) and len(own) == layer.rows else None
        self.before = None if self.bias is None else self.bias.detach().clone()

    @torch.no_grad()
    def put(self, rounded: Rounded) -> None:
        """The layer's weight and bias become what they were rounded to."""
        self.layer.weight.copy_(rounded.weight.decode().to(self.layer.weight))
        torch.clear_autocast_cache()  # of the weight as it was
        if self.bias is not None and self.before is not None:
            self.bias.copy_(self.before if rounded.bias is None else self.before + rounded.bias.to(self.before))

    def parameters(self, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
        """Names in the network -> values for a weight [R, n] and a change of the bias [R]."""
        shaped = weight.to(self.layer.weight).view_as(self.layer.weight)
        found = dict.fromkeys(self.layer.parameters, shaped)
        if self.before is not None:
            name = self.layer.parameters[0].removesuffix("weight") + "bias"
            found[name] = self.before if bias is None else self.before + bias.to(self.before)
        return found


def block_problem(
    block: Block, placed: Mapping[str, Placed], called: Mapping[int, BlockEnd], full: Mapping[int, BlockEnd],
    groups: Sequence[Tensor],
) -> BlockProblem | None:  # fmt: skip
    """A block and its batches, without its layers' problems; None where outputs cannot be separated by image. called: batch ->
    how the module was called with all before it rounded; full: the same in full precision."""
    batches = sorted(called)
    targets = [by_image(full[batch].output, len(groups[batch])) if batch in full else None for batch in batches]
    known = [target for target in targets if target is not None]
    if not batches or len(known) < len(batches):
        return None
    start = f"{block.name}." if block.name else ""

    def run(number: int, rounded: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        parameters: dict[str, Tensor] = {}
        for name, (weight, bias) in rounded.items():
            values = placed[name].parameters(weight, bias)
            parameters |= {path.removeprefix(start): value for path, value in values.items()}
        end, images = called[batches[number]], len(groups[batches[number]])
        options = {name: cloned(value) for name, value in end.options.items()}
        arguments = cloned(end.arguments)  # a module may write into them
        found = by_image(functional_call(block.module, parameters, arguments, options), images)
        if found is None or found.shape != known[number].shape:
            raise ValueError(f"block {block.name!r}: its output is of another form than in full precision")
        return found

    return BlockProblem(
        name=block.name, layers={}, rounded={}, groups=[groups[batch] for batch in batches], group_names=(), targets=known, run=run,
    )  # fmt: skip
