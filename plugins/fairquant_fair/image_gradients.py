"""What one wants to know of single images' gradients, without keeping them, nor forming them where that is the dearer way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairquant.roles import Batch, Layer

CHUNK_SIZE = 1 << 21  # numbers (inputs, derivatives, gradients) handled at a time
FEW_POSITIONS = 16  # positions of an image up to which K changes are applied to them sooner than to the gradient

#: A layer's calls: module, inputs and derivatives at its output, both with one entry an image.
Seen = list[tuple[nn.Module, Tensor, Tensor]]


@dataclass
class _Call:
    """One call of a layer's module: what it saw and, once the backward pass has come by, the loss's derivative at its
    output. No derivative: the output was not used."""

    module: nn.Module
    inputs: Tensor
    derivative: Tensor | None = None


class Reduction(Protocol):
    """What is wanted of a layer's gradients, per output channel; an image's gradient has the weight's shape [out, ...]."""

    def of_calls(self, calls: Seen, size: int) -> Tensor:
        """Of all images' gradients, from what the layer's calls saw: [B, out, ...]."""

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Of one image's gradient: [out, ...]."""


class SquaredNorms:
    """Squared norm of each row: [B, out]."""

    def of_calls(self, calls: Seen, size: int) -> Tensor:
        return _in_chunks(calls, size, self._of_some)

    def of_gradient(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(1).square().sum(1)

    def _of_some(self, calls: Seen) -> Tensor:
        module, seen, derivative = calls[0]
        if len(calls) == 1 and _slides_by_one(module):
            return _squared_rows(*_shifts(module, seen, derivative))
        return _squared_rows(*_side_by_side(calls), (0,))


@dataclass(frozen=True, eq=False)
class Products:
    """Scalar product of each row with the same row of K changes of the weight, changes [K, *weight.shape]: [B, out, K]."""

    changes: Tensor

    def of_calls(self, calls: Seen, size: int) -> Tensor:
        positions = sum(slopes[0].numel() for _, _, slopes in calls) // self.changes.shape[1]
        return _in_chunks(calls, size, self._of_gradients) if positions > FEW_POSITIONS else self._of_answers(calls)

    def of_gradient(self, gradient: Tensor) -> Tensor:
        return torch.einsum("on,kon->ok", gradient.flatten(1), self.changes.flatten(2))

    def _of_answers(self, calls: Seen) -> Tensor:
        """What the changed weights would add to the outputs, times the slopes there: all images by one matrix product."""
        inputs, slopes = _side_by_side(calls)
        answers = torch.einsum("bgnt,kgmn->bgmkt", inputs, self._by_row(inputs, slopes))
        found: Tensor = torch.linalg.vecdot(answers, slopes[:, :, :, None])
        return found.flatten(1, 2)

    def _of_gradients(self, calls: Seen) -> Tensor:
        """The gradients first: where an image has many positions, the changes are gone through once and not once for each."""
        inputs, slopes = _side_by_side(calls)
        gradients = slopes @ inputs.transpose(2, 3)
        return torch.einsum("bgmn,kgmn->bgmk", gradients, self._by_row(inputs, slopes)).flatten(1, 2)

    def _by_row(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        return self.changes.reshape(-1, inputs.shape[1], slopes.shape[2], inputs.shape[2])


def row_norms(model: nn.Module, batch: Batch, layers: tuple[Layer, ...]) -> list[Tensor]:
    """Squared norm of each image's gradient, per output channel: [B, out] for each layer."""
    return reduce_gradients(model, batch, layers, [SquaredNorms() for _ in layers])


def reduce_gradients(
    model: nn.Module, batch: Batch, layers: tuple[Layer, ...], reductions: Sequence[Reduction]
) -> list[Tensor]:
    """One reduction for each layer, of the gradient of each image's loss: [B, out, ...] for each layer.

    A layer is dealt with as soon as the backward pass has brought its last derivative, which is then let go: nothing
    but the layers' inputs is kept, as in any training step.
    """
    size = len(batch.labels)
    calls: list[list[_Call]] = [[] for _ in layers]
    results: list[Tensor | None] = [None] * len(layers)
    roots: list[Tensor] = []

    def finish(place: int) -> None:
        if place not in odd:
            seen = [
                (call.module, *_image_first(call.inputs, call.derivative, size))
                for call in calls[place]
                if call.derivative is not None
            ]
            results[place] = reductions[place].of_calls(seen, size)
        calls[place].clear()

    def arrived(place: int, call: _Call, derivative: Tensor) -> None:
        call.derivative = derivative
        if all(other.derivative is not None for other in calls[place]):
            finish(place)

    def record(place: int, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not output.requires_grad:  # the network's first layers: the backward pass ends here
            roots.append(output.detach().requires_grad_(True))
            output = roots[-1].clone()
        call = _Call(module, inputs[0].detach())
        calls[place].append(call)
        output.register_hook(partial(arrived, place, call))  # type: ignore[no-untyped-call]
        return output

    hooks = [
        module.register_forward_hook(partial(record, place))
        for place, layer in enumerate(layers)
        for module in layer.modules
    ]
    try:
        loss = F.cross_entropy(model(batch.images), batch.labels, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    odd = _not_by_image(model, batch, calls)
    torch.autograd.grad(loss, roots, allow_unused=True)
    for place, layer in enumerate(layers):
        if any(call.derivative is not None for call in calls[place]):
            finish(place)
        elif results[place] is None:
            results[place] = _image_by_image(model, batch, layer, reductions[place])
    return [result for result in results if result is not None]


@torch.enable_grad()
def _image_by_image(model: nn.Module, batch: Batch, layer: Layer, reduction: Reduction) -> Tensor:
    """The slow way, for a weight whose module is never called itself; zeros where it is not used at all."""
    weight, found = layer.weight, []
    weight.requires_grad_(True)
    for row in range(len(batch.labels)):
        loss = F.cross_entropy(model(batch.images[row : row + 1]), batch.labels[row : row + 1])
        gradient = torch.autograd.grad(loss, weight, allow_unused=True)[0] if loss.requires_grad else None
        found.append(reduction.of_gradient(torch.zeros_like(weight) if gradient is None else gradient).detach())
    weight.requires_grad_(False)
    return torch.stack(found)


def _image_first(inputs: Tensor, derivative: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Inputs and derivatives with one entry an image: a sequence that comes first is moved behind, windows that were
    made images of their own (as in Swin and TinyViT) are put side by side again."""
    if len(inputs) == size:
        return inputs, derivative
    if inputs.dim() > 2 and inputs.shape[1] == size:
        return inputs.transpose(0, 1), derivative.transpose(0, 1)
    return inputs.reshape(size, -1, inputs.shape[-1]), derivative.reshape(size, -1, derivative.shape[-1])


def _not_by_image(model: nn.Module, batch: Batch, calls: list[list[_Call]]) -> set[int]:
    """Layers whose inputs cannot be told apart by image. Where the first axis is not the batch's, the first image
    is sent through alone, and what the layer then sees must be its share of what it saw."""
    size = len(batch.labels)
    asked = [place for place, found in enumerate(calls) if any(len(call.inputs) != size for call in found)]
    if not asked:
        return set()
    alone: dict[int, list[Tensor]] = {place: [] for place in asked}
    modules = {call.module for place in asked for call in calls[place]}
    places = {id(call.module): place for place in asked for call in calls[place]}
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: alone[places[id(module)]].append(inputs[0]))
        for module in modules
    ]
    try:
        with torch.no_grad():
            model(batch.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return {place for place in asked if not _same_first_image(calls[place], alone[place], size)}


def _same_first_image(calls: list[_Call], alone: list[Tensor], size: int) -> bool:
    if len(calls) != len(alone):
        return False
    for call, single in zip(calls, alone, strict=True):
        inputs = call.inputs
        if len(inputs) == size:
            continue
        if not isinstance(call.module, nn.Linear):
            return False
        if inputs.dim() > 2 and inputs.shape[1] == size:
            own = inputs[:, :1]
        elif len(inputs) % size == 0:
            own = inputs[: len(inputs) // size]
        else:
            return False
        if own.shape != single.shape or not torch.allclose(own, single, rtol=1e-3, atol=1e-4):
            return False
    return True


def _in_chunks(calls: Seen, size: int, reduce: Callable[[Seen], Tensor]) -> Tensor:
    """reduce(calls of a few images) side by side, so that what is made of them stays in the processor's cache."""
    module, inputs, slopes = calls[0]
    assert isinstance(module.weight, Tensor)
    per_image = inputs[0].numel() + slopes[0].numel() + module.weight.numel()
    step = max(1, CHUNK_SIZE // per_image) if slopes.device.type == "cpu" else size
    chunks = (slice(start, start + step) for start in range(0, size, step))
    return torch.cat([reduce([(m, seen[images], d[images]) for m, seen, d in calls]) for images in chunks])


def _side_by_side(calls: Seen) -> tuple[Tensor, Tensor]:
    """Inputs [B, g, n, T] and slopes [B, g, m, T] of all calls as those of one call with more positions: an image's
    gradient is slopes @ inputs^T."""
    parts = [_positions(*call) for call in calls]
    inputs, slopes = (torch.cat(each, -1) if len(parts) > 1 else each[0] for each in zip(*parts, strict=True))
    return inputs, slopes


def _padded(module: nn.Conv2d, seen: Tensor) -> Tensor:
    padding = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(seen, padding, mode=mode) if any(padding) else seen


def _slides_by_one(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(module, nn.Conv2d) and tuple(module.stride) == (1, 1) and tuple(module.dilation) == (1, 1)


def _shifts(module: nn.Conv2d, seen: Tensor, derivative: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """A convolution that slides by one position, without unfolding: each tap of the kernel sees the same flat, padded
    input from another offset on. Rows of the derivative get zeros at their ends, to be as wide as the padded input."""
    seen = _padded(module, seen)
    batch, (height, width) = len(seen), module.kernel_size
    line, length = seen.shape[3], derivative.shape[2] * seen.shape[3] - (width - 1)
    slopes = F.pad(derivative, (0, width - 1)).reshape(batch, module.groups, -1, derivative.shape[2] * line)
    offsets = tuple(row * line + column for row in range(height) for column in range(width))
    return seen.reshape(batch, module.groups, -1, seen.shape[2] * line), slopes[..., :length], offsets


def _positions(module: nn.Module, seen: Tensor, derivative: Tensor) -> tuple[Tensor, Tensor]:
    """Unfolded inputs [B, groups, n, T] and output derivatives [B, groups, out/groups, T] of one call."""
    batch = len(seen)
    if isinstance(module, nn.Conv2d):
        columns = F.unfold(
            _padded(module, seen),
            module.kernel_size,
            dilation=module.dilation,
            stride=module.stride,  # type: ignore[arg-type]
        )
        shape = (batch, module.groups, -1, columns.shape[-1])
        return columns.view(shape), derivative.reshape(shape)
    inputs = seen.reshape(batch, 1, -1, seen.shape[-1]).transpose(2, 3)
    return inputs, derivative.reshape(batch, 1, -1, derivative.shape[-1]).transpose(2, 3)


def _squared_rows(inputs: Tensor, slopes: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """inputs [B, g, n, P], slopes [B, g, m, T] -> [B, g*m]: squared row norms, over all offsets o, of
    slopes @ inputs[..., o:o+T]^T. Either by these products or by the positions' products with each other, which all
    offsets share: whichever takes fewer multiplications."""
    batch, groups, columns, places = inputs.shape
    rows, positions = slopes.shape[2:]
    taps = len(offsets)
    if positions == 1:
        squared = slopes.square().squeeze(-1) * inputs.square().sum((2, 3))[..., None]
    elif places**2 * columns + positions**2 * (taps + rows) < positions * columns * rows * taps:
        products = inputs.transpose(2, 3) @ inputs  # [B, g, P, P]
        shifted = [products[..., o : o + positions, o : o + positions] for o in offsets]
        squared = torch.linalg.vecdot(slopes @ _sum(shifted), slopes, dim=-1)
    else:
        blocks = (slopes @ inputs[..., o : o + positions].transpose(2, 3) for o in offsets)
        squared = _sum([torch.linalg.vector_norm(block, dim=-1).square() for block in blocks])
    return squared.reshape(batch, groups * rows)


def _sum(parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    total = parts[0] + parts[1]
    for term in parts[2:]:
        total += term
    return total
