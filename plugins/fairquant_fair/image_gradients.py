"""Reductions of the gradients of single images in one forward and one backward pass, without storing these gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fairquant.errors import NO_GRADIENTS, UserError
from fairquant.roles import Batch, Layer
from fairquant_fair.reductions import Reduction

#: (number of the layer, module, inputs, output) -> the output that the network goes on with.
OnCall = Callable[[int, nn.Module, Tensor, Tensor], Tensor]


@dataclass(eq=False)
class _Call:
    """One use of a layer's weight: its inputs and, after the backward pass, the loss's derivative at its output; None
    where the output does not affect the loss."""

    module: nn.Module
    inputs: Tensor
    derivative: Tensor | None = None


class _Products(TorchFunctionMode):
    """Watches F.linear, which modules also call with the weight of another (attention in BEiT, EVA and Swin V2)."""

    def __init__(self, layers: Sequence[Layer], on_call: OnCall) -> None:
        super().__init__()
        self.numbers = {id(layer.weight): number for number, layer in enumerate(layers)}
        self.modules, self.on_call = [layer.modules[0] for layer in layers], on_call

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A reason for Any: the arguments of every function there is."""
        output = func(*args, **(kwargs or {}))
        if func is not F.linear:
            return output
        named = {**dict(zip(("input", "weight"), args, strict=False)), **(kwargs or {})}
        number = self.numbers.get(id(named["weight"]))
        return output if number is None else self.on_call(number, self.modules[number], named["input"], output)


@contextmanager
def _watch(layers: Sequence[Layer], on_call: OnCall) -> Iterator[None]:
    """Every product with a layer's weight, and every call of its convolutions."""

    def hook(number: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return on_call(number, module, inputs[0], output)

    handles = [
        module.register_forward_hook(partial(hook, number))
        for number, layer in enumerate(layers)
        for module in layer.modules
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with _Products(layers, on_call):
            yield
    finally:
        for handle in handles:
            handle.remove()


def reduce_gradients(
    model: nn.Module, batch: Batch, layers: tuple[Layer, ...], reductions: Sequence[Reduction]
) -> list[Tensor]:
    """One reduction for each layer, of the gradient of each image's loss: [B, out, ...] for each layer.

    A layer is reduced as soon as the backward pass has reached its last call, and its derivatives are then released: only
    the layers' inputs are stored, as in any training step.
    """
    recorder = _Recorder(reductions, len(batch.labels))
    with _watch(layers, recorder.record):
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

    def record(self, number: int, module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        """Store the inputs of a call."""
        if not torch.is_grad_enabled():
            raise UserError(
                f"importance by gradients: {NO_GRADIENTS}. Take that out, or set importance: null and allocator: uniform, as "
                "the method gptq does"
            )
        if not output.requires_grad:  # the network's first layers: the backward pass ends here
            self.roots.append(output.detach().requires_grad_(True))
            output = self.roots[-1].clone()
        reached = _inputs_of_operation(module, inputs.detach(), output.detach())
        if reached is None:
            self.inseparable.add(number)
            reached = inputs.detach()
        call = _Call(module, _not_half(reached))
        self.calls[number].append(call)
        output.register_hook(partial(self._receive, number, call))  # type: ignore[no-untyped-call]
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
                (call.module, *_image_first(call.inputs, call.derivative, self.size))
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


def _inputs_of_operation(module: nn.Module, inputs: Tensor, output: Tensor) -> Tensor | None:
    """What a convolution is applied to: the module's inputs or, where its forward pads them itself (timm's Conv2dSame), the padded
    inputs; of a product its inputs. None where a convolution's forward computes something else. inputs, output: of one call."""
    if not isinstance(module, nn.Conv2d) or type(module).forward is nn.Conv2d.forward:
        return inputs
    if isinstance(module.padding, str):
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


def _if_equal(module: nn.Conv2d, inputs: Tensor, output: Tensor) -> Tensor | None:
    """The inputs, if the plain convolution gives the first image's output; None where it does not or cannot take them."""
    try:
        with torch.no_grad():
            expected = nn.Conv2d.forward(module, inputs[:1])
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


def _inseparable(model: nn.Module, batch: Batch, layers: Sequence[Layer], calls: list[list[_Call]]) -> set[int]:
    """Numbers of the layers whose inputs cannot be separated by image. Where the first axis is not the batch's, the first
    image is passed through alone, and the layer's inputs must then equal their part of the recorded inputs."""
    size = len(batch.labels)
    suspects = [number for number, own in enumerate(calls) if any(len(call.inputs) != size for call in own)]
    if not suspects:
        return set()
    alone: dict[int, list[Tensor]] = {number: [] for number in suspects}

    def record(number: int, _: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        alone[suspects[number]].append(inputs)
        return output

    with _watch([layers[number] for number in suspects], record), torch.no_grad():
        model(batch.images[:1])
    return {number for number in suspects if not _same_first_image(calls[number], alone[number], size)}


def _same_first_image(calls: list[_Call], alone: list[Tensor], size: int) -> bool:
    """Whether the first image's part of each call's inputs equals the inputs when that image is passed alone."""
    if len(calls) != len(alone):
        return False
    for call, single in zip(calls, alone, strict=True):
        inputs = call.inputs
        if len(inputs) == size:
            continue
        if isinstance(call.module, nn.Conv2d):
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
