"""The grid of a row of weights: where its levels lie, the code of each weight, and the best clipping.

Work goes through the weights in stretches that stay in the processor's cache: with millions of weights, memory
traffic is the price of quantization-aware training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fairquant.roles.quantizer import dequantize, largest_code

STRETCH = 1 << 17  # weights


def stretches(weight: Tensor) -> Iterator[slice]:
    """Slices of rows, about STRETCH weights each (the whole on an accelerator)."""
    rows, columns = weight.shape
    step = rows if weight.device.type != "cpu" else max(1, STRETCH // max(columns, 1))
    for start in range(0, rows, max(step, 1)):
        yield slice(start, min(start + step, rows))


@dataclass(frozen=True)
class Grid:
    """Levels of each row: sign(k) * (|k| * scale + shift), |k| <= largest; 0 where |w| < threshold.

    scale, largest [R]; shift, threshold [R] or None (plain uniform); signs [R]: rows of one bit, k = -1 or +1.
    """

    scale: Tensor
    largest: Tensor
    signs: Tensor
    any_signs: bool
    shift: Tensor | None = None
    threshold: Tensor | None = None

    def part(self, rows: slice | Tensor) -> Grid:
        return Grid(
            self.scale[rows], self.largest[rows], self.signs[rows], self.any_signs,
            None if self.shift is None else self.shift[rows],
            None if self.threshold is None else self.threshold[rows],
        )  # fmt: skip

    def codes(self, weight: Tensor) -> Tensor:
        """Codes as floats [R, n] of weights [R, n]."""
        if self.shift is None or self.threshold is None:
            codes = torch.div(weight, self.scale[:, None]).round_()
            codes.clamp_(-self.largest[:, None], self.largest[:, None])
        else:
            size = weight.abs()
            outside = size >= self.threshold[:, None]
            codes = size.sub_(self.shift[:, None]).div_(self.scale[:, None]).round_()
            codes.clamp_(torch.ones_like(self.largest)[:, None], self.largest[:, None])
            codes.mul_(outside).copysign_(weight)
        if self.any_signs:
            codes[self.signs] = torch.where(weight[self.signs] < 0, -1.0, 1.0)
        return codes

    def quantize(self, weight: Tensor) -> Tensor:
        """Weights on the grid [R, n]; equals decoding the codes, bit for bit."""
        return dequantize(self.codes(weight), self.scale, self.shift)


def row_statistics(weight: Tensor, need_mean: bool) -> tuple[Tensor, Tensor]:
    """max|w| and mean|w| of each row [R] (the mean only where asked for, else the maximum twice)."""
    largest = weight.new_empty(weight.shape[0])
    mean = torch.empty_like(largest) if need_mean else largest
    for rows in stretches(weight):
        low, high = torch.aminmax(weight[rows], dim=1)
        torch.maximum(-low, high, out=largest[rows])
        if need_mean:
            mean[rows] = weight[rows].abs().mean(1)
    return largest, mean


def uniform_grid(clip: Tensor, mean: Tensor, bits: Tensor) -> Grid:
    """The symmetric uniform grid: scale = clip / (2^(b-1)-1); one bit: sign(w) * mean|w|. clip, mean, bits [R]."""
    largest = largest_code(bits)
    signs = bits == 1
    any_signs = bool(signs.any())
    scale = (clip / largest.clamp_min(1)).clamp_min(1e-12)
    if any_signs:
        scale = torch.where(signs, mean, scale)
    return Grid(scale, largest, signs, any_signs)


#: Clipping ratios tried, relative to max|w| of the row.
RATIOS = tuple(1.0 - 0.035 * step for step in range(26))


@torch.no_grad()
def mse_clipping(weight: Tensor, bits: Tensor) -> Tensor:
    """Per row, the ratio of max|w| at which to clip for the least squared error at its bits [R] -> [R]; 1 where no row
    near it has two bits or more."""
    best = weight.new_ones(weight.shape[0])
    for rows in stretches(weight):
        part, width = weight[rows], bits[rows]
        if int(width.max()) < 2:  # pruned, or signs: nothing to clip
            continue
        limit = part.abs().amax(1)
        least = torch.full_like(limit, torch.inf)
        lowest = 0.12 if int(width.min()) <= 4 else 0.6  # wide codes clip little
        for ratio in RATIOS:
            if ratio < lowest:
                break
            grid = uniform_grid(limit * ratio, limit, width.clamp_min(2))
            error = grid.quantize(part).sub_(part).square_().sum(1)
            better = error < least
            least = torch.where(better, error, least)
            best[rows] = torch.where(better, ratio, best[rows])
    return best
