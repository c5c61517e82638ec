"""Reductions of the gradients of single images in one forward and one backward pass, without storing these gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.bits.products import Product, Products
from fairquant.errors import NO_GRADIENTS, UserError
from fairquant.roles import Batch, Layer
from fairquant_fair.reductions import Reduction


@dataclass(eq=False)
class _Call:
    """One use of a layer's weight and, after the backward pass, the loss's derivative at its output; None where the output does not
    affect the loss."""

    product: Product
    derivative: Tensor | None = None


def reduce_gradients(
    model: nn.Module, batch: Batch, layers: tuple[Layer, ...], reductions: Sequence[Reduction]
) -> list[Tensor]:
    """One reduction for each layer, of the gradient of each image's loss: [B, out, ...] for each layer.

    A layer is reduced as soon as the backward pass has reached its last call, and its derivatives are then released: only
    the layers' inputs are stored, as in any training step.
    """
    recorder = _Recorder(reductions, len(batch.labels))
    with Products(layers, on_output=recorder.record):
        loss = F.cross_entropy(model(batch.images), batch.labels, reduction="sum")
    recorder.inseparable |= _inseparable(model, batch, layers, recorder.calls)
    if recorder.roots:
        torch.autograd.grad(loss, recorder.roots, allow_unused=True)
    results = recorder.results
    for number in range(len(layers)):
        if any(call.derivative is not None for call in recorder.calls[number]):
            recorder.finish(number)
    left = [number for number, result in enumerate(results) if result is None]
    if left:
        slow = _image_by_image(model, batch, [layers[n] for n in left], [reductions[n] for n in left])
        for number, result in zip(left, slow, strict=True):
            results[number] = result
    return [result for result in results if result is not None]


class _Recorder:
    """Records the calls of each layer in the forward pass and reduces them in the backward pass.

    calls, results: by layer; roots: detached outputs at which the backward pass may stop; inseparable: numbers of the layers
    whose inputs cannot be separated by image and which are left out.
    """

    def __init__(self, reductions: Sequence[Reduction], size: int) -> None:
        self.reductions, self.size = reductions, size
        self.calls: list[list[_Call]] = [[] for _ in reductions]
        self.results: list[Tensor | None] = [None] * len(reductions)
        self.roots: list[Tensor] = []
        self.inseparable: set[int] = set()

    def record(self, product: Product, output: Tensor) -> Tensor:
        """Store the inputs of a call."""
        if not torch.is_grad_enabled():
            raise UserError(
                f"importance by gradients: {NO_GRADIENTS}. Take that out, or set importance: null and allocator: uniform, as "
                "the method gptq does"
            )
        if not output.requires_grad:  # the network's first layers: the backward pass ends here
            self.roots.append(output.detach().requires_grad_(True))
            output = self.roots[-1].clone()
        call = _Call(replace(product, inputs=_not_half(product.inputs)))
        self.calls[product.number].append(call)
        output.register_hook(partial(self._receive, product.number, call))  # type: ignore[no-untyped-call]
        return output

    def _receive(self, number: int, call: _Call, derivative: Tensor) -> None:
        """Store the derivative at the output of a call; reduce the layer with its last one."""
        call.derivative = _not_half(derivative)
        if all(other.derivative is not None for other in self.calls[number]):
            self.finish(number)

    def finish(self, number: int) -> None:
        """Reduce the calls of a layer that affect the loss, and release them."""
        if number not in self.inseparable:
            calls = [
                (
                    replace(call.product, inputs=_image_first(call.product.inputs, self.size)),
                    _image_first(call.derivative, self.size),
                )
                for call in self.calls[number]
                if call.derivative is not None
            ]
            self.results[number] = self.reductions[number].of_calls(calls, self.size)
        self.calls[number].clear()


def _not_half(tensor: Tensor) -> Tensor:
    """Under autocast, inputs and derivatives may have 16 bits, which differ from each other and from the weights."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


@torch.enable_grad()
def _image_by_image(
    model: nn.Module, batch: Batch, layers: Sequence[Layer], reductions: Sequence[Reduction]
) -> list[Tensor]:
    """[B, out, ...] of each layer by one backward pass per image, for weights whose modules are never called themselves, or
    compute something of their own; zeros where a weight is not used at all."""
    weights = [layer.weight for layer in layers]
    rows: list[list[Tensor]] = [[] for _ in layers]
    for weight in weights:
        weight.requires_grad_(True)
    for row in range(len(batch.labels)):
        loss = F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1])
        gradients = (
            torch.autograd.grad(loss, weights, allow_unused=True) if loss.requires_grad else [None] * len(weights)
        )
        for results, weight, reduction, gradient in zip(rows, weights, reductions, gradients, strict=True):
            results.append(reduction.of_gradient(torch.zeros_like(weight) if gradient is None else gradient).detach())
    for weight in weights:
        weight.requires_grad_(False)
    return [torch.stack(results) for results in rows]


def _image_first(values: Tensor, size: int) -> Tensor:
    """Inputs or derivatives [B, ...] with one entry per image: a sequence axis that comes first is moved behind, windows that were
    batched as images of their own (as in Swin and TinyViT) are put side by side again."""
    if len(values) == size:
        return values
    if values.dim() > 2 and values.shape[1] == size:
        return values.transpose(0, 1)
    return values.reshape(size, -1, values.shape[-1])


def _inseparable(model: nn.Module, batch: Batch, layers: Sequence[Layer], calls: list[list[_Call]]) -> set[int]:
    """Numbers of the layers whose inputs cannot be separated by image. Where the first axis is not the batch's, the first
    image is passed through alone, and the layer's inputs must then equal their part of the recorded inputs."""
    size = len(batch.labels)
    suspects = [number for number, own in enumerate(calls) if any(_unclear(call.product, size) for call in own)]
    if not suspects:
        return set()
    alone: dict[int, list[Tensor]] = {number: [] for number in suspects}

    def record(product: Product) -> None:
        alone[suspects[product.number]].append(product.inputs)

    with Products([layers[number] for number in suspects], record), torch.no_grad():
        model(batch.images[:1])
    return {number for number in suspects if not _same_first_image(calls[number], alone[number], size)}


def _unclear(product: Product, size: int) -> bool:
    """Whether the first axis may be another than the batch's."""
    inputs = product.inputs
    return len(inputs) != size or (not product.spatial and inputs.dim() > 2 and inputs.shape[1] == size)


def _same_first_image(calls: list[_Call], alone: list[Tensor], size: int) -> bool:
    """Whether the first image's part of each call's inputs equals the inputs when that image is passed alone."""
    if len(calls) != len(alone):
        return False
    for call, single in zip(calls, alone, strict=True):
        inputs = call.product.inputs
        if not _unclear(call.product, size):
            continue
        if call.product.spatial:
            return False
        if len(inputs) == size:
            first = inputs[:1]
        elif inputs.dim() > 2 and inputs.shape[1] == size:
            first = inputs[:, :1]
        elif len(inputs) % size == 0:
            first = inputs[: len(inputs) // size]
        else:
            return False
        if first.shape != single.shape or not torch.allclose(first, single, rtol=1e-3, atol=1e-4):
            return False
    return True
