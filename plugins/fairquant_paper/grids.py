"""The quantization grid of a row of weights: its levels, the code of each weight, and the best clipping.

Weights are processed in chunks of rows that fit the processor's cache: with millions of weights, memory traffic dominates
the cost of quantization-aware training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight, dequantize, largest_code, rows_of

CHUNK_SIZE = 1 << 18  # weights


def chunks(weight: Tensor) -> Iterator[slice]:
    """Slices of the rows of a weight [R, n], about CHUNK_SIZE weights each; on an accelerator a single slice."""
    rows, columns = weight.shape
    step = rows if weight.device.type != "cpu" else max(1, CHUNK_SIZE // max(columns, 1))
    for start in range(0, rows, max(step, 1)):
        yield slice(start, min(start + step, rows))


@dataclass(frozen=True)
class Grid:
    """Levels of each row: 0 and sign(w) * (k * scale + shift), least <= k <= largest; k is the nearest to |w|.

    scale, least, largest [R]: least is 1 where the row has one bit (the sign of the weight only), else 0; shift [R] or None
    (plain uniform). With a shift the dead zone ends at shift + scale / 2, where the nearest k changes from 0 to 1.
    """

    scale: Tensor
    least: Tensor
    largest: Tensor
    shift: Tensor | None = None

    def select(self, rows: slice | Tensor) -> Grid:
        """The grid of some of the rows: a slice, or their indices [M]."""
        shift = None if self.shift is None else self.shift[rows]
        return Grid(self.scale[rows], self.least[rows], self.largest[rows], shift)

    def codes(self, weight: Tensor) -> Tensor:
        """Codes, as floats [R, n], of weights [R, n]. Only float operations: masks cost several times as much."""
        codes = weight.abs()
        if self.shift is not None:
            codes.sub_(self.shift[:, None])
        codes.div_(self.scale.clamp_min(1e-12)[:, None]).round_()  # a row of zeros with one bit has scale 0
        return codes.clamp_(self.least[:, None], self.largest[:, None]).copysign_(weight)

    def quantize(self, weight: Tensor) -> Tensor:
        """Weights [R, n] rounded to the grid [R, n]; equals the decoded codes bit for bit."""
        return dequantize(self.codes(weight), self.scale, self.shift)


def row_statistics(weight: Tensor, need_mean: bool) -> tuple[Tensor, Tensor]:
    """max|w| and mean|w| [R] of the rows of a weight [R, n]; without need_mean the maximum is returned twice."""
    largest = weight.new_empty(weight.shape[0])
    mean = torch.empty_like(largest) if need_mean else largest
    for rows in chunks(weight):
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
    """Smallest and largest absolute value of a code [R] at bits [R]: 0 and 2^(b-1)-1; 1 and 1 at one bit."""
    least = (bits == 1).float()
    return least, torch.maximum(largest_code(bits), least)


def clipping_of(stored: QuantizedWeight) -> Tensor:
    """The largest level of each row of a stored weight, relative to its largest weight [R]; above 1 where no weight has the largest
    code, and 1 for rows of zeros and of signs."""
    limit, _ = row_statistics(rows_of(stored.decode()), need_mean=False)
    top = stored.scale * largest_code(stored.bits)
    top = top if stored.shift is None else top + stored.shift
    return torch.where((stored.bits >= 2) & (limit > 0), top / limit.clamp_min(1e-30), 1.0)


#: Clipping ratios tried, relative to max|w| of the row.
RATIOS = tuple(1.0 - 0.035 * step for step in range(26))


@torch.no_grad()
def mse_clipping(weight: Tensor, bits: Tensor) -> Tensor:
    """Per row, the clipping ratio relative to max|w| with the least squared error: weight [R, n], bits [R] -> [R].

    1 for the rows of a chunk in which no row has two or more bits.
    """
    best = weight.new_ones(weight.shape[0])
    for rows in chunks(weight):
        chunk, width = weight[rows], bits[rows]
        if int(width.max()) < 2:  # pruned units and signs: nothing to clip
            continue
        limit = chunk.abs().amax(1)
        least = torch.full_like(limit, torch.inf)
        lowest = 0.12 if int(width.min()) <= 4 else 0.6  # with many bits the best clipping is close to the maximum
        for ratio in RATIOS:
            if ratio < lowest:
                break
            grid = uniform_grid(limit * ratio, limit, width.clamp_min(2))
            error = grid.quantize(chunk).sub_(chunk).square_().sum(1)
            better = error < least
            least = torch.where(better, error, least)
            best[rows] = torch.where(better, ratio, best[rows])
    return best
