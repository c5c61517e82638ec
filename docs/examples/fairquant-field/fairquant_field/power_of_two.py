"""Levels that are powers of two: fine near zero, coarse far from it, and multiplication is a shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fairquant.roles import QuantizedWeight, WeightQuantizer
from fairquant.roles.quantizer import look_up, row_bits, rows_of


def power_of_two_codewords() -> Tensor:
    """Table [9, 256] whose row b starts with the 2^b levels of width b, ascending: -1, -1/2, ... up to 1, one of them 0."""
    table = torch.zeros(9, 256)
    for bits in range(2, 6):
        negative = [-(2.0**-k) for k in range(2 ** (bits - 1) - 1)]
        table[bits, : 2**bits] = torch.tensor(sorted([*negative, 0.0, *[2.0**-k for k in range(2 ** (bits - 1))]]))
    return table


class _PowerOfTwoRows(WeightQuantizer):
    codewords: Tensor

    def __init__(self, bits: Tensor) -> None:
        super().__init__(bits)
        self.register_buffer("codewords", power_of_two_codewords())

    def forward(self, weight: Tensor) -> Tensor:
        """weight [out, ...] -> quantized weight of the same shape; the gradient passes straight through."""
        stored = self.encode(weight.detach())
        decoded = look_up(stored.codes, stored.bits, stored.scale, self.codewords).view_as(weight)
        return weight + (decoded - weight).detach() if self.training else decoded

    def encode(self, weight: Tensor) -> QuantizedWeight:
        """What is stored of a weight [out, ...]."""
        rows = rows_of(weight)
        bits = row_bits(self.width, len(rows))
        scale = rows.abs().amax(1).clamp_min(1e-12)
        codes = torch.zeros(rows.shape, dtype=torch.int8)
        for width in sorted({*bits.tolist()} - {0}):
            members, levels = bits == width, self.codewords[width, : 2**width]
            number = torch.bucketize(rows[members] / scale[members, None], (levels[1:] + levels[:-1]) / 2)
            codes[members] = (number - 2 ** (width - 1)).to(torch.int8)
        return QuantizedWeight(
            codes=codes, bits=bits.clone(), scale=scale, shape=tuple(weight.shape), codebook=self.codewords
        )


@dataclass(frozen=True)
class PowerOfTwo:
    """sign(w) * max|w| * 2^-k, or 0, whichever is nearest, per output channel (after Zhou et al., arXiv 1702.03044).

    Widths 0 and 2 to 5: with more, the smallest steps are below the resolution of float32.
    """

    widths: ClassVar[tuple[int, ...]] = (0, 2, 3, 4, 5)

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        """weight [out, ...], bits [U] -> the module."""
        return _PowerOfTwoRows(bits).to(weight.device)
