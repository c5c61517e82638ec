"""Which positions of a layer's output, and which elements of a block's, the network's answer depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.layers import untouched
from fairquant.bits.products import Product, Products, find_sequence_first
from fairquant.data.ranks import average_over_ranks
from fairquant.errors import NO_GRADIENTS, UserError
from fairquant.roles import Batch, Layer
from fairquant.rounding.blocks import Block, by_image, tensors_in

#: Of the mean weight, what every position and element has at least: gradients say nothing about large errors.
FLOOR = 0.1


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Mean squared gradients of the loss in full precision, with labels drawn from the network's own class probabilities (the
    diagonal of the Fisher information), relative to their mean over a layer's images and positions or over a block's elements.

    positions: (layer's number, batch's number) -> [B, P]; elements: block's number -> [F], mean over images.
    """

    positions: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    elements: Mapping[int, Tensor] = field(default_factory=dict)


def guide(network: nn.Module, layers: Sequence[Layer], blocks: Sequence[Block], batches: Sequence[Batch]) -> Guidance:
    """One forward and one backward pass over the batches; no labels are used. Products that cannot be observed are left out."""
    positions: dict[tuple[int, int], Tensor] = {}
    totals: dict[int, Tensor] = {}
    with untouched(network), torch.enable_grad(), ExitStack() as stack:
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for number, block in enumerate(blocks):
            hook = block.module.register_forward_hook(partial(_watch_block, totals, number))
            stack.callback(hook.remove)
        draw = torch.Generator().manual_seed(0)
        tokens: frozenset[int] | None = None
        for number, batch in enumerate(batches):
            images = batch.images.detach().clone().requires_grad_(True)
            tokens = find_sequence_first(network, batch.images, layers) if tokens is None else tokens
            watch = partial(_watch_layer, positions, number, len(batch.groups))
            with Products(layers, on_output=watch, sequence_first=tokens):
                logits = network(images).float()
            chances = logits.detach().softmax(1).double().cpu()
            labels = torch.multinomial(chances, 1, generator=draw)[:, 0].to(logits.device)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            if not loss.requires_grad:
                raise UserError(f"rounding.gradients: {NO_GRADIENTS}. Take that out, or set gradients: false")
            torch.autograd.grad(loss, images, allow_unused=True)
    return Guidance(
        positions=_relative(positions, len(layers)),
        elements={number: _mean_one(each) for number, each in totals.items()},
    )


def _watch_layer(
    positions: dict[tuple[int, int], Tensor], batch: int, images: int, product: Product, output: Tensor
) -> Tensor:
    """Keep the mean over channels of the squared gradient at a product's output; of the first product of a layer only."""
    key = (product.number, batch)

    def receive(gradient: Tensor) -> None:
        squared = gradient.square()
        if product.spatial:
            positions[key] = squared.mean(1).flatten(1) if len(squared) == images else torch.ones(0)
            return
        rows = replace(product, inputs=squared.mean(-1, keepdim=True)).columns(images)
        positions[key] = torch.ones(0) if rows is None else rows[:, :, 0, 0]

    if output.requires_grad and key not in positions:
        positions[key] = torch.ones(0)
        output.register_hook(receive)  # type: ignore[no-untyped-call]
    return output


def _watch_block(
    totals: dict[int, Tensor], number: int, module: nn.Module, inputs: tuple[object, ...], output: object
) -> None:
    """Sum the squared gradients at a block's output over images, where it is one tensor."""
    tensors = [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
    if len(tensors) != 1 or not tensors[0].requires_grad or not isinstance(inputs[0] if inputs else None, Tensor):
        return
    images = len(inputs[0])  # type: ignore[arg-type]

    def receive(gradient: Tensor) -> None:
        rows = by_image(gradient.square(), images)
        if rows is not None:
            summed = rows.sum(0)
            known = totals.get(number)
            totals[number] = summed if known is None or known.shape != summed.shape else known + summed

    tensors[0].register_hook(receive)  # type: ignore[no-untyped-call]


def _relative(positions: Mapping[tuple[int, int], Tensor], layers: int) -> dict[tuple[int, int], Tensor]:
    """Each layer's gradients relative to their mean over all batches, with the floor."""
    found: dict[tuple[int, int], Tensor] = {}
    for number in range(layers):
        own = {key: each for key, each in positions.items() if key[0] == number}
        if not own or not all(each.numel() for each in own.values()):
            continue
        mean = torch.stack([each.double().mean() for each in own.values()]).mean()
        mean = average_over_ranks([mean])[0].clamp_min(1e-300)
        found |= {key: ((1 - FLOOR) * each.double() / mean + FLOOR).to(each) for key, each in own.items()}
    return found


def _mean_one(total: Tensor) -> Tensor:
    total = average_over_ranks([total.double()])[0]
    return ((1 - FLOOR) * total / total.mean().clamp_min(1e-300) + FLOOR).float()
