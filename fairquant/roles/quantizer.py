"""Role `quantizer`: weights to few bits and back, differentiable in training, exact in storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


def dequantize(codes: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """codes [rows, n] (whole numbers, any dtype) -> weights: code * scale + sign(code) * shift.

    The one place where codes become weights: training, packing and loading share it, so they agree bit for bit.
    """
    codes = codes.to(scale.dtype)
    weights = codes * scale[:, None]
    return weights if shift is None else weights + codes.sign() * shift[:, None]


def look_up(codes: Tensor, bits: Tensor, scale: Tensor, codebook: Tensor) -> Tensor:
    """Codes [rows, n] of rows with their bits [rows] -> weights: the codeword with that number times the row's scale."""
    half = torch.where(bits >= 2, 2 ** (bits - 1).clamp_min(0), 0)[:, None]
    number = torch.where((bits == 1)[:, None], (codes.long() + 1) // 2, codes.long() + half)
    return codebook[bits[:, None], number] * scale[:, None]


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight:
    """What is stored of one weight [out, ...] flattened to rows [R, n].

    codes: int8 [R, n], |code| <= 2^(b-1)-1, or -1 and +1 where b = 1, 0 where b = 0; bits: int64 [R];
    scale, shift: float32 [R] (shift None: no dead zone offset).
    codebook: float32 [9, 256] or None; row b holds the 2^b codewords of width b, ascending, in units of the row's scale.
    With one, a code is the codeword's number less 2^(b-1) (b = 1: -1 and +1), so that all 2^b codes are used.
    """

    codes: Tensor
    bits: Tensor
    scale: Tensor
    shape: tuple[int, ...]
    shift: Tensor | None = None
    codebook: Tensor | None = None

    def decode(self) -> Tensor:
        """The weights [out, ...], exactly those of the quantizer's forward."""
        if self.codebook is not None:
            return look_up(self.codes, self.bits, self.scale, self.codebook).reshape(self.shape)
        return dequantize(self.codes, self.scale, self.shift).reshape(self.shape)

    def to(self, device: torch.device) -> QuantizedWeight:
        """The same on another device."""
        return replace(
            self, codes=self.codes.to(device), bits=self.bits.to(device), scale=self.scale.to(device),
            shift=None if self.shift is None else self.shift.to(device),
            codebook=None if self.codebook is None else self.codebook.to(device),
        )  # fmt: skip


class WeightQuantizer(nn.Module):
    """The module attached to a layer's weight with torch.nn.utils.parametrize.

    forward(w) -> w_hat of w's shape; bits() -> float [U], differentiable where bits are learned; encode(w) -> what is
    stored; freeze(bits [U]): from now on exactly these bits; lower_bits, start_from: optional, see there. Given `bits`, they are
    kept in the buffer `width` [U] and nothing more is needed for bits() and freeze(). `bit_logits` [U] is the parameter
    behind learnable bits, `learns_bits` whether they are still being learned.
    """

    bit_logits: nn.Parameter | None
    width: Tensor

    def __init__(self, bits: Tensor | None = None) -> None:
        """bits [U]: kept in the buffer `width`; None: the subclass keeps them itself."""
        super().__init__()
        self.register_parameter("bit_logits", None)
        if bits is not None:
            self.register_buffer("width", bits.to(torch.int64).clone())

    @property
    def learns_bits(self) -> bool:
        return False

    def bits(self) -> Tensor:
        """Bits of each unit [U], as float."""
        return self.width.float()

    @torch.no_grad()
    def freeze(self, bits: Tensor) -> None:
        """From now on exactly these bits [U]."""
        self.width.copy_(bits)

    @torch.no_grad()
    def lower_bits(self, by: float) -> None:
        """Move the parameters behind learned bits down by this much: no unit has more bits after it, and with enough of it all have
        the fewest that they may have."""
        if self.bit_logits is not None:
            self.bit_logits.sub_(by)

    def start_from(self, stored: QuantizedWeight) -> None:
        """Take over the grid of the weight that a rounding has chosen, so that encode(stored.decode()) gives its codes and training
        starts from just these. Here nothing is done: the grid is found anew from the rounded weight, in whose rows the largest
        codes may be missing."""

    def forward(self, weight: Tensor) -> Tensor:
        """weight [out, ...] -> quantized weight of the same shape."""
        raise NotImplementedError

    def encode(self, weight: Tensor) -> QuantizedWeight:
        """What is stored of a weight [out, ...]."""
        raise NotImplementedError


@runtime_checkable
class Quantizer(Protocol):
    """Builds a weight quantizer for one weight and its starting bits [U] (U = 1: one width for the whole tensor).

    Law: encode(w).decode() equals forward(w) bit for bit, at every width it allows; |codes| fit the bits.

        class RoundRows(WeightQuantizer):
            def forward(self, weight):                                # the gradient goes straight through
                return weight + (self.encode(weight.detach()).decode() - weight).detach()
            def encode(self, weight): ...

        @dataclass(frozen=True)
        class Round:
            def build(self, weight, bits, choices): return RoundRows(bits)
    """

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        """The module for a weight [out, ...] that starts at bits [U]; choices: the widths it may be given later."""
        ...


@runtime_checkable
class LimitedWidths(Protocol):
    """A quantizer that does not have every width from 0 to 8 bits: `widths` names those it has."""

    widths: ClassVar[tuple[int, ...]]


def widths_of(quantizer: Quantizer) -> tuple[int, ...]:
    """The widths that a quantizer has, in bits."""
    return tuple(quantizer.widths) if isinstance(quantizer, LimitedWidths) else tuple(range(9))


def rows_of(weight: Tensor) -> Tensor:
    """[out, ...] -> [out, n]."""
    return weight.reshape(weight.shape[0], -1)


def row_bits(bits: Tensor, rows: int) -> Tensor:
    """Bits of units [U] -> bits of output channels [rows]."""
    return bits.expand(rows) if bits.numel() == 1 else bits


def largest_code(bits: Tensor) -> Tensor:
    """bits [...] -> [...]: 2^(b-1) - 1, and 0 for b = 0 (pruned) and b = 1 (signs, handled apart)."""
    return torch.where(bits >= 2, 2.0 ** (bits - 1) - 1, torch.zeros_like(bits, dtype=torch.float32))


def codes_fit(weight: QuantizedWeight) -> Tensor:
    """Which codes [R, n] fit the bits of their row."""
    codes, bits = weight.codes.long(), weight.bits[:, None]
    half = 2 ** (bits - 1).clamp_min(0)
    low = -half if weight.codebook is not None else -(half - 1)
    several = (codes >= low) & (codes < half)
    return torch.where(bits == 0, codes == 0, torch.where(bits == 1, codes.abs() == 1, several))
