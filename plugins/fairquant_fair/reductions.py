"""What is reduced from the gradients of single images, from a layer's inputs and derivatives, without forming the gradients
where that is more expensive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fairquant.bits.products import Product

CHUNK_SIZE = 1 << 21  # numbers (inputs, derivatives, gradients) processed at a time
FEW_POSITIONS = 16  # up to this many positions per image, applying K changes to them is faster than to the gradient

#: The products of a layer and the derivatives at their outputs, both with one entry per image on the first axis.
Calls = list[tuple[Product, Tensor]]


class Reduction(Protocol):
    """What is computed from a layer's gradients, per output channel; an image's gradient has the weight's shape [out, ...]."""

    def of_calls(self, calls: Calls, size: int) -> Tensor:
        """Of the gradients of all `size` images, from the layer's products: [B, out, ...]."""

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Of the gradient of one image, of the weight's shape: [out, ...]."""


class SquaredNorms:
    """Squared norm of each row: [B, out]."""

    def of_calls(self, calls: Calls, size: int) -> Tensor:
        """[B, out], from inputs and derivatives."""
        return _in_chunks(calls, size, self._of_chunk)

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """[out, ...] -> [out]."""
        return gradient.flatten(1).square().sum(1)

    def _of_chunk(self, calls: Calls) -> Tensor:
        """[b, out] for the b images of the chunk."""
        product, derivative = calls[0]
        if len(calls) == 1 and _slides_by_one(product):
            return _squared_rows(*_shifts(product, derivative))
        return _squared_rows(*_side_by_side(calls), (0,))


@dataclass(frozen=True, eq=False)
class Products:
    """Scalar product of each row with the same row of K changes of the weight, changes [K, *weight.shape]: [B, out, K]. norms: with
    the squared norm of each row before them, [B, out, 1 + K]."""

    changes: Tensor
    norms: bool = False

    def of_calls(self, calls: Calls, size: int) -> Tensor:
        """[B, out, K] or [B, out, 1 + K], from inputs and derivatives."""
        positions = sum(derivative[0].numel() for _, derivative in calls) // self.changes.shape[1]
        if positions > FEW_POSITIONS:
            return _in_chunks(calls, size, self._from_gradients)
        found = self._from_outputs(calls)
        return torch.cat([SquaredNorms().of_calls(calls, size)[..., None], found], -1) if self.norms else found

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """[out, ...] -> [out, K] or [out, 1 + K]."""
        rows = gradient.flatten(1)
        found = torch.einsum("on,kon->ok", rows, self.changes.flatten(2))
        return torch.cat([rows.square().sum(1, keepdim=True), found], 1) if self.norms else found

    def _from_outputs(self, calls: Calls) -> Tensor:
        """[B, out, K]: the changes of the outputs that the changed weights cause, times the derivatives there; one matrix
        product for all images."""
        inputs, derivatives = _side_by_side(calls)
        outputs = torch.einsum("bgnt,kgmn->bgmkt", inputs, self._by_row(inputs, derivatives))
        products: Tensor = torch.linalg.vecdot(outputs, derivatives[:, :, :, None])
        return products.flatten(1, 2)

    def _from_gradients(self, calls: Calls) -> Tensor:
        """[b, out, K] by way of the gradients: with many positions per image, this reads the changes once instead of once
        per position."""
        inputs, derivatives = _side_by_side(calls)
        gradients = derivatives @ inputs.transpose(2, 3)
        found = torch.einsum("bgmn,kgmn->bgmk", gradients, self._by_row(inputs, derivatives)).flatten(1, 2)
        if not self.norms:
            return found
        squared = torch.linalg.vector_norm(gradients, dim=-1).square().flatten(1, 2)
        return torch.cat([squared[..., None], found], -1)

    def _by_row(self, inputs: Tensor, derivatives: Tensor) -> Tensor:
        """The changes as [K, g, m, n] for inputs [B, g, n, T] and derivatives [B, g, m, T]."""
        return self.changes.reshape(-1, inputs.shape[1], derivatives.shape[2], inputs.shape[2])


def _in_chunks(calls: Calls, size: int, reduce: Callable[[Calls], Tensor]) -> Tensor:
    """`reduce` applied to the calls of a few images at a time, so that intermediate results fit the processor's cache:
    [B, ...]."""
    product, derivatives = calls[0]
    per_image = product.inputs[0].numel() + derivatives[0].numel() + product.weight.numel()
    step = max(1, CHUNK_SIZE // per_image) if derivatives.device.type == "cpu" else size
    chunks = (slice(start, start + step) for start in range(0, size, step))
    return torch.cat(
        [reduce([(replace(p, inputs=p.inputs[images]), d[images]) for p, d in calls]) for images in chunks]
    )


def _side_by_side(calls: Calls) -> tuple[Tensor, Tensor]:
    """Inputs [B, g, n, T] and derivatives [B, g, m, T] of all calls as those of one call with more positions: an image's
    gradient is derivatives @ inputs^T."""
    pairs = [_positions(*call) for call in calls]
    inputs, derivatives = (torch.cat(each, -1) if len(pairs) > 1 else each[0] for each in zip(*pairs, strict=True))
    return inputs, derivatives


def _slides_by_one(product: Product) -> bool:
    return product.spatial == 2 and product.sizes("stride") == product.sizes("dilation") == (1, 1)


def _shifts(product: Product, derivative: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """A convolution with stride and dilation 1, without unfolding: each tap of the kernel reads the same flat, padded
    input from another offset. Rows of the derivative are padded with zeros to the width of the padded input.

    Returns inputs [B, g, n, P], derivatives [B, g, m, T] and the offset of each tap, for `_squared_rows`.
    """
    inputs, groups = product.padded(), product.slices
    batch, (height, width) = len(inputs), product.weight.shape[2:]
    line, length = inputs.shape[3], derivative.shape[2] * inputs.shape[3] - (width - 1)
    derivatives = F.pad(derivative, (0, width - 1)).reshape(batch, groups, -1, derivative.shape[2] * line)
    offsets = tuple(row * line + column for row in range(height) for column in range(width))
    return inputs.reshape(batch, groups, -1, inputs.shape[2] * line), derivatives[..., :length], offsets


def _positions(product: Product, derivative: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [B, groups, n, T] of every position and output derivatives [B, groups, out/groups, T] of one product."""
    columns = product.columns(len(product.inputs))
    assert columns is not None  # one entry per image
    inputs = columns.permute(0, 2, 3, 1)
    if product.spatial:
        return inputs, derivative.reshape(len(inputs), inputs.shape[1], -1, inputs.shape[3])
    return inputs, derivative.reshape(len(inputs), 1, -1, derivative.shape[-1]).transpose(2, 3)


def _squared_rows(inputs: Tensor, derivatives: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """inputs [B, g, n, P], derivatives [B, g, m, T] -> [B, g*m]: squared row norms, over all offsets o, of
    derivatives @ inputs[..., o:o+T]^T. Computed either from these products or from the products of the positions with each
    other, which all offsets share, whichever takes fewer multiplications."""
    batch, groups, columns, places = inputs.shape
    rows, positions = derivatives.shape[2:]
    taps = len(offsets)
    if positions == 1:
        squared = derivatives.square().squeeze(-1) * inputs.square().sum((2, 3))[..., None]
    elif places**2 * columns + positions**2 * (taps + rows) < positions * columns * rows * taps:
        products = inputs.transpose(2, 3) @ inputs  # [B, g, P, P]
        shifted = [products[..., o : o + positions, o : o + positions] for o in offsets]
        squared = torch.linalg.vecdot(derivatives @ _sum(shifted), derivatives, dim=-1)
        squared = squared.clamp_min(0)  # where the sum over positions cancels, rounding can leave less than nothing
    else:
        blocks = (derivatives @ inputs[..., o : o + positions].transpose(2, 3) for o in offsets)
        squared = _sum([torch.linalg.vector_norm(block, dim=-1).square() for block in blocks])
    return squared.reshape(batch, groups * rows)


def _sum(terms: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape [...], with one allocation."""
    if len(terms) == 1:
        return terms[0]
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total
