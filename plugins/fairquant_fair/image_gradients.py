"""Reductions of the gradients of single images in one forward and one backward pass, without storing these gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from fairquant.roles import Batch, Layer
from fairquant_fair.reductions import Reduction


@dataclass(eq=False)
class _Call:
    """One call of a layer's module: its inputs and, after the backward pass, the loss's derivative at its output; None
    where the output does not affect the loss."""

    module: nn.Module
    inputs: Tensor
    derivative: Tensor | None = None


def reduce_gradients(
    model: nn.Module, batch: Batch, layers: tuple[Layer, ...], reductions: Sequence[Reduction]
) -> list[Tensor]:
    """One reduction for each layer, of the gradient of each image's loss: [B, out, ...] for each layer.

    A layer is reduced as soon as the backward pass has reached its last call, and its derivatives are then released: only
    the layers' inputs are stored, as in any training step.
    """
    recorder = _Recorder(reductions, len(batch.labels))
    handles = recorder.attach(layers)
    try:
        loss = F.cross_entropy(model(batch.images), batch.labels, reduction="sum")
    finally:
        for handle in handles:
            handle.remove()
    recorder.inseparable |= _inseparable(model, batch, recorder.calls)
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

    def attach(self, layers: tuple[Layer, ...]) -> list[RemovableHandle]:
        """Hooks on all modules of the layers; none where one of them is neither a Conv2d nor a Linear."""
        return [
            module.register_forward_hook(partial(self._record, number))
            for number, layer in enumerate(layers)
            if all(isinstance(module, nn.Conv2d | nn.Linear) for module in layer.modules)
            for module in layer.modules
        ]

    def _record(self, number: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Store the inputs of a call; a forward hook."""
        if not output.requires_grad:  # the network's first layers: the backward pass ends here
            self.roots.append(output.detach().requires_grad_(True))
            output = self.roots[-1].clone()
        reached = _inputs_of_operation(module, inputs[0].detach(), output.detach())
        if reached is None:
            self.inseparable.add(number)
            reached = inputs[0].detach()
        call = _Call(module, reached)
        self.calls[number].append(call)
        output.register_hook(partial(self._receive, number, call))  # type: ignore[no-untyped-call]
        return output

    def _receive(self, number: int, call: _Call, derivative: Tensor) -> None:
        """Store the derivative at the output of a call; reduce the layer with its last one."""
        call.derivative = derivative
        if all(other.derivative is not None for other in self.calls[number]):
            self.finish(number)

    def finish(self, number: int) -> None:
        """Reduce the calls of a layer that affect the loss, and release them."""
        if number not in self.inseparable:
            calls = [
                (call.module, *_image_first(call.inputs, call.derivative, self.size))
                for call in self.calls[number]
                if call.derivative is not None
            ]
            self.results[number] = self.reductions[number].of_calls(calls, self.size)
        self.calls[number].clear()


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


def _inputs_of_operation(module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor | None:
    """What the module's own convolution or product is applied to: its inputs or, where its forward pads them itself (timm's
    Conv2dSame), the padded inputs. None where its forward computes something else. inputs, output: of one call."""
    if type(module).forward in (nn.Conv2d.forward, nn.Linear.forward):
        return inputs
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
        return _if_equal(module, inputs, output)
    padding: list[int] = []
    for axis in (1, 0):  # F.pad starts with the last axis
        reach = (
            (output.shape[2 + axis] - 1) * module.stride[axis]
            + module.dilation[axis] * (module.kernel_size[axis] - 1)
            + 1
        )
        total = max(reach - 2 * module.padding[axis] - inputs.shape[2 + axis], 0)
        padding += [total // 2, total - total // 2]
    return _if_equal(module, F.pad(inputs, padding), output)


def _if_equal(module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor | None:
    """The inputs, if the plain operation gives the first image's output; None where it does not or cannot take them."""
    plain = nn.Conv2d.forward if isinstance(module, nn.Conv2d) else nn.Linear.forward
    try:
        with torch.no_grad():
            expected = plain(module, inputs[:1])  # type: ignore[arg-type]
    except (RuntimeError, TypeError, ValueError):
        return None
    fits = expected.shape == output[:1].shape and torch.allclose(expected, output[:1], rtol=1e-3, atol=1e-4)
    return inputs if fits else None


def _image_first(inputs: Tensor, derivative: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Inputs and derivatives [B, ...] with one entry per image: a sequence axis that comes first is moved behind, windows
    that were batched as images of their own (as in Swin and TinyViT) are put side by side again."""
    if len(inputs) == size:
        return inputs, derivative
    if inputs.dim() > 2 and inputs.shape[1] == size:
        return inputs.transpose(0, 1), derivative.transpose(0, 1)
    return inputs.reshape(size, -1, inputs.shape[-1]), derivative.reshape(size, -1, derivative.shape[-1])


def _inseparable(model: nn.Module, batch: Batch, calls: list[list[_Call]]) -> set[int]:
    """Numbers of the layers whose inputs cannot be separated by image. Where the first axis is not the batch's, the first
    image is passed through alone, and the layer's inputs must then equal their part of the recorded inputs."""
    size = len(batch.labels)
    suspects = [number for number, own in enumerate(calls) if any(len(call.inputs) != size for call in own)]
    if not suspects:
        return set()
    alone: dict[int, list[Tensor]] = {number: [] for number in suspects}
    modules = {call.module for number in suspects for call in calls[number]}
    numbers = {id(call.module): number for number in suspects for call in calls[number]}
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: alone[numbers[id(module)]].append(inputs[0]))
        for module in modules
    ]
    try:
        with torch.no_grad():
            model(batch.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return {number for number in suspects if not _same_first_image(calls[number], alone[number], size)}


def _same_first_image(calls: list[_Call], alone: list[Tensor], size: int) -> bool:
    """Whether the first image's part of each call's inputs equals the inputs when that image is passed alone."""
    if len(calls) != len(alone):
        return False
    for call, single in zip(calls, alone, strict=True):
        inputs = call.inputs
        if len(inputs) == size:
            continue
        if not isinstance(call.module, nn.Linear):
            return False
        if inputs.dim() > 2 and inputs.shape[1] == size:
            first = inputs[:, :1]
        elif len(inputs) % size == 0:
            first = inputs[: len(inputs) // size]
        else:
            return False
        if first.shape != single.shape or not torch.allclose(first, single, rtol=1e-3, atol=1e-4):
            return False
    return True
