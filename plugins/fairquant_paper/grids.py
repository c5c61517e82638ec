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

STRETCH = 1 << 18  # weights


def stretches(weight: Tensor) -> Iterator[slice]:
    """Slices of rows, about STRETCH weights each (the whole on an accelerator)."""
    rows, columns = weight.shape
    step = rows if weight.device.type != "cpu" else max(1, STRETCH // max(columns, 1))
    for start in range(0, rows, max(step, 1)):
        yield slice(start, min(start + step, rows))


@dataclass(frozen=True)
class Grid:
    """Levels of each row: 0 and sign(w) * (k * scale + shift), least <= k <= largest; k is the nearest to |w|.

    scale, least, largest [R]: least is 1 where the row has one bit (the weight's sign alone), else 0; shift [R] or None
    (plain uniform). With a shift the dead zone ends at shift + scale / 2, where the nearest k turns from 0 to 1.
    """

    scale: Tensor
    least: Tensor
    largest: Tensor
    shift: Tensor | None = None

    def part(self, rows: slice | Tensor) -> Grid:
        shift = None if self.shift is None else self.shift[rows]
        return Grid(self.scale[rows], self.least[rows], self.largest[rows], shift)

    def codes(self, weight: Tensor) -> Tensor:
        """Codes as floats [R, n] of weights [R, n]. Float operations alone: masks cost several times as much."""
        codes = weight.abs()
        if self.shift is not None:
            codes.sub_(self.shift[:, None])
        codes.div_(self.scale.clamp_min(1e-12)[:, None]).round_()  # signs of nothing have scale 0
        return codes.clamp_(self.least[:, None], self.largest[:, None]).copysign_(weight)

    def quantize(self, weight: Tensor) -> Tensor:
        """Weights on the grid [R, n]; equals decoding the codes, bit for bit."""
        return dequantize(self.codes(weight), self.scale, self.shift)


def row_statistics(weight: Tensor, need_mean: bool) -> tuple[Tensor, Tensor]:
    """max|w| and mean|w| of each row [R] (the mean only where asked for, else the maximum twice)."""
    largest = weight.new_empty(weight.shape[0])
    mean = torch.empty_like(largest) if need_mean else largest
    for rows in stretches(weight):
        torch.maximum(-weight[rows].amin(1), weight[rows].amax(1), out=largest[rows])  # ten times as fast as aminmax
        if need_mean:
            mean[rows] = weight[rows].abs().mean(1)
    return largest, mean


def uniform_grid(clip: Tensor, mean: Tensor, bits: Tensor) -> Grid:
    """The symmetric uniform grid: scale = clip / (2^(b-1)-1); one bit: sign(w) * mean|w|. clip, mean, bits [R]."""
    least, largest = code_range(bits)
    scale = (clip / largest.clamp_min(1)).clamp_min(1e-12)
    return Grid(torch.where(bits == 1, mean, scale), least, largest)


def code_range(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest size of a code [R] at bits [R]: 0 and 2^(b-1)-1; 1 and 1 at one bit."""
    least = (bits == 1).float()
    return least, torch.maximum(largest_code(bits), least)


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
