"""BAQ, bit-aware quantization (FairQuant, arXiv 2602.23192): the bits and the dead zone of every unit are parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer, largest_code, row_bits, rows_of
from fairquant_paper.grids import Grid, chunks, clipping_of, code_range, mse_clipping, row_statistics
from fairquant_paper.uniform import quantize_rows

#: How near to the ends of their range learned bits start, as a fraction of it: at the ends there is no gradient.
LEAST = 0.01
BitGradient = Literal["fractional", "step"]
Scale = Literal["absmax", "quantile", "mse"]


@dataclass(frozen=True)
class Baq:
    """b = tanh|theta_b| (bmax - bmin) + bmin;  levels 0 and sign(w) (d/2 + s (k - 1/2)), k = 1..q, q = 2^(b-1) - 1.

    theta_b starts at the allocator's plan. The levels are those of CoDeQ (arXiv 2512.12981), s = (c - d/2)/(q - 1/2);
    the formula of the FairQuant code has 2^b + 1 levels, one too many for b bits.

    gradient: how the task's loss reaches theta_b. "fractional" (FracBits, arXiv 2007.02017) mixes the two
    neighbouring widths, w_hat = (1-f) Q_floor(b) + f Q_ceil(b), so that dL/db = <dL/dw_hat, Q_ceil - Q_floor>, a true
    finite difference. "step" rounds b straight-through and differentiates the step s(b), as CoDeQ does; below two bits,
    where there is no step, it takes the finite difference, so that a pruned unit receives a gradient as well.
    scale: the clipping c. "absmax" max|w| with dead zone d = (1 - tanh|theta_d|) c, theta_d = -6 at the start (the
    paper); "quantile" the 99 % quantile of |w| at the start, as a ratio of max|w|; "mse" the ratio of least squared
    error at each width, with the dead zone in steps, d = 2 (1 - tanh|theta_d|) c / q, started at the uniform grid.
    The engine projects learned bits onto the budget and freezes them as whole numbers.
    """

    gradient: BitGradient = "step"
    scale: Scale = "mse"

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        """weight [out, ...], bits [U] -> the module; learned bits stay between the smallest and the largest choice."""
        return BaqWeightQuantizer(weight, bits, (min(choices), max(choices)), self.gradient, self.scale)


class BaqWeightQuantizer(WeightQuantizer):
    """bit_logits [U] = theta_b, dead_logits [U] = theta_d, clip [R, 9]: clipping relative to max|w| by width; frozen: bits
    are no longer learned."""

    clip: Tensor
    frozen: Tensor

    def __init__(
        self, weight: Tensor, bits: Tensor, bit_range: tuple[int, int], gradient: BitGradient, scale: Scale
    ) -> None:
        """weight [out, ...]; bits [U]: the allocator's plan; bit_range: smallest and largest bit choice."""
        super().__init__(bits)
        rows = rows_of(weight.detach())
        low, high = min(bit_range[0], int(bits.min())), max(bit_range[1], int(bits.max()))
        self.low, self.high, self.gradient, self.kind = low, high, gradient, scale
        fraction = ((bits.float() - low) / max(high - low, 1)).clamp(LEAST, 1 - LEAST)
        start = math.atanh(0.5) if scale == "mse" else -6.0
        self.bit_logits = nn.Parameter(torch.atanh(fraction).to(rows.device))
        self.dead_logits = nn.Parameter(torch.full_like(self.bit_logits, start))
        self.register_buffer("clip", self._clipping(rows, scale))
        self.register_buffer("frozen", torch.tensor(False))

    def _clipping(self, rows: Tensor, scale: Scale) -> Tensor:
        """Clipping relative to max|w| of weights [R, n] at each width [R, 9]."""
        table = rows.new_ones((len(rows), 9))
        if scale == "quantile":
            limit = rows.abs().amax(1).clamp_min(1e-12)
            table *= (torch.quantile(rows.abs(), 0.99, dim=1) / limit).clamp_min(0.1)[:, None]
        if scale == "mse":
            for width in range(max(self.low, 2), self.high + 1):
                table[:, width] = mse_clipping(rows, torch.full((len(rows),), width, device=rows.device))
        return table

    @property
    def learns_bits(self) -> bool:
        return not bool(self.frozen)

    def bits(self) -> Tensor:
        """Bits of each unit [U]: real numbers while they are learned, whole numbers once frozen."""
        if bool(self.frozen):
            return self.width.float()
        assert self.bit_logits is not None
        return torch.tanh(self.bit_logits.abs()) * (self.high - self.low) + self.low

    @torch.no_grad()
    def lower_bits(self, by: float) -> None:
        """theta_b nearer to zero, where the fewest bits are."""
        assert self.bit_logits is not None
        self.bit_logits.copy_((self.bit_logits.abs() - by).clamp_min(LEAST))

    def freeze(self, bits: Tensor) -> None:
        """Fix the bits [U]."""
        with torch.no_grad():
            self.width.copy_(bits)
            self.frozen.fill_(True)
        assert self.bit_logits is not None
        self.bit_logits.requires_grad_(False)

    @torch.no_grad()
    def start_from(self, stored: QuantizedWeight) -> None:
        """The clipping and the dead zone of a rounded weight, at the width of each of its rows."""
        self.clip.scatter_(1, stored.bits[:, None], clipping_of(stored)[:, None])
        several = (stored.bits >= 2) & (stored.codes != 0).any(1)  # rows of zeros say nothing of the dead zone
        if stored.shift is None or not bool(several.any()):
            return
        steps = largest_code(stored.bits)
        zone, top = 2 * stored.shift + stored.scale, stored.scale * steps + stored.shift
        dead = zone / top.clamp_min(1e-12) * (steps / 2 if self.kind == "mse" else 1.0)
        if self.dead_logits.numel() == 1:  # of the tensor: that of its rows in the mean
            dead, several = dead[several].mean()[None], several.any()[None]
        self.dead_logits.copy_(torch.where(several, torch.atanh(1 - dead.clamp(1e-5, 1.0)), self.dead_logits))

    def grid(self, rows: Tensor, bits: Tensor, dead: Tensor, statistics: tuple[Tensor, Tensor]) -> Grid:
        """The grid of weights [R, n] at whole bits [R]; dead [R] = 1 - tanh|theta_d|; statistics: see `row_statistics`."""
        limit, mean = statistics
        clip = limit * self.clip.gather(1, bits[:, None].clamp_max(8))[:, 0]
        least, largest = code_range(bits)
        steps = largest.clamp_min(1)
        zone = (2 * dead * clip / steps if self.kind == "mse" else dead * clip).clamp_max(1.9 * clip)
        scale = ((clip - zone / 2) / (steps - 0.5)).clamp_min(1e-12)
        shift = zone / 2 - scale / 2
        signs = bits == 1
        return Grid(torch.where(signs, mean, scale), least, largest, torch.where(signs, 0.0, shift))

    def _dead(self, rows: int) -> Tensor:
        """1 - tanh|theta_d| of each row [R]."""
        return row_bits(1 - torch.tanh(self.dead_logits.abs()), rows)

    def forward(self, weight: Tensor) -> Tensor:
        """weight [out, ...] -> quantized weight of the same shape, differentiable in weight, bits and dead zone."""
        rows = rows_of(weight)
        dead = self._dead(len(rows))
        learning = self.training and not bool(self.frozen)
        bits = row_bits(self.bits(), len(rows))
        with torch.no_grad():
            whole = self._whole_bits(len(rows))
            lower = bits.floor().clamp(self.low, max(self.high - 1, self.low)) if learning else bits
            below = lower.to(torch.int64)
            fractional = learning and self.gradient == "fractional"
            used = below if fractional else whole
            statistics = row_statistics(rows, need_mean=bool((torch.minimum(used, below) <= 1).any()))
            grid = self.grid(rows, used, dead, statistics)
        if fractional:
            with torch.no_grad():
                above = self.grid(rows, (used + 1).clamp_max(self.high), dead, statistics)
            mixed: Tensor = _Fractional.apply(rows, bits - used, dead, grid, above)
            return mixed.view_as(weight)
        next_bit: _NextBit | None = None
        if learning and self.high > self.low:
            with torch.no_grad():
                low_bit_rows = torch.nonzero(bits < 2)[:, 0]
                if len(low_bit_rows):
                    current, above = (self.grid(rows, below + more, dead, statistics) for more in (0, 1))
                    next_bit = _NextBit(low_bit_rows, current.select(low_bit_rows), above.select(low_bit_rows))
        stepped: Tensor = _Step.apply(rows, bits, dead, grid, next_bit)
        return stepped.view_as(weight)

    def _whole_bits(self, rows: int) -> Tensor:
        """Bits of each row [R], rounded to whole numbers."""
        if bool(self.frozen):
            return row_bits(self.width, rows)
        return row_bits(self.bits().detach().round().to(torch.int64), rows)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> QuantizedWeight:
        """What is stored of a weight [out, ...], at whole bits."""
        rows = rows_of(weight)
        bits = self._whole_bits(len(rows))
        statistics = row_statistics(rows, need_mean=bool((bits <= 1).any()))
        grid = self.grid(rows, bits, self._dead(len(rows)), statistics)
        codes = torch.cat([grid.select(chunk).codes(rows[chunk]).to(torch.int8) for chunk in chunks(rows)])
        return QuantizedWeight(
            codes=codes, bits=bits.clone(), scale=grid.scale, shape=tuple(weight.shape), shift=grid.shift
        )


@dataclass(frozen=True)
class _NextBit:
    """Rows [M] with fewer than two bits, and their grids at the current and at the next width."""

    rows: Tensor
    current: Grid
    above: Grid


def _dead_zone_gradient(rows: Tensor, out: Tensor, gradient: Tensor, grid: Grid) -> Tensor:
    """sum over quantized weights of dL/dw_hat * (w_hat - w) [R], from which both dL/ds and dL/dd follow.

    rows, out, gradient [R, n]: w, w_hat and dL/dw_hat. Inside the range d w_hat / d s = k - k_real = (w_hat - w) / s (sign
    included), where k_real is the code before rounding; in the dead zone and beyond the clipping w_hat does not depend on s.
    """
    total = torch.empty_like(grid.scale)
    assert grid.shift is not None
    top = (grid.largest * grid.scale + grid.shift)[:, None]
    for chunk in chunks(rows):
        residual = out[chunk] - rows[chunk].clamp(-top[chunk], top[chunk])
        residual.mul_(out[chunk].sign().abs_())
        total[chunk] = torch.linalg.vecdot(gradient[chunk], residual, dim=1)
    return total * (1 - grid.least)


def _dead_gradient(total: Tensor, grid: Grid, zone_slope: Tensor) -> Tensor:
    """dL/d dead [R]: dead changes d by zone_slope [R], d changes s by -1/(2q - 1), s changes w_hat by (w_hat - w)/s, whose
    product with dL/dw_hat is total [R]."""
    return -total * zone_slope / (2 * grid.largest.clamp_min(1) - 1) / grid.scale


class _Fractional(torch.autograd.Function):
    """(1-f) Q_b(w) + f Q_{b+1}(w). Straight through to w; dL/df = <dL/dw_hat, Q_{b+1} - Q_b> per row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, fraction: Tensor, dead: Tensor, grid: Grid, above: Grid) -> Tensor:
        out, step = torch.empty_like(rows), torch.empty_like(rows)
        for chunk in chunks(rows):
            current = grid.select(chunk).quantize(rows[chunk])
            torch.sub(above.select(chunk).quantize(rows[chunk]), current, out=step[chunk])
            torch.addcmul(current, step[chunk], fraction[chunk][:, None], out=out[chunk])
        ctx.save_for_backward(rows, out, step, dead)
        ctx.grid = grid
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, out, step, dead = ctx.saved_tensors
        fraction_gradient = torch.empty_like(dead)
        for chunk in chunks(rows):
            fraction_gradient[chunk] = torch.linalg.vecdot(gradient[chunk], step[chunk], dim=1)
        total = _dead_zone_gradient(rows, out, gradient, ctx.grid)
        dead_gradient = _dead_gradient(total, ctx.grid, _zone_slope(ctx.grid, dead))
        return gradient, fraction_gradient, dead_gradient, None, None


class _Step(torch.autograd.Function):
    """Q at rounded bits. dL/db = dL/ds ds/dq dq/db with s = (c - d/2)/(q - 1/2), q = 2^(b-1) - 1; for the rows with fewer
    than two bits, dL/db = <dL/dw_hat, Q_{b+1} - Q_b>."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, bits: Tensor, dead: Tensor, grid: Grid, next_bit: _NextBit | None) -> Tensor:
        out = quantize_rows(rows, grid)
        ctx.save_for_backward(rows, out, dead)
        ctx.grid, ctx.next_bit = grid, next_bit
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return gradient, None, None, None, None
        rows, out, dead = ctx.saved_tensors
        grid: Grid = ctx.grid
        next_bit: _NextBit | None = ctx.next_bit
        total = _dead_zone_gradient(rows, out, gradient, grid)
        steps = grid.largest.clamp_min(1)
        bit_gradient = -total * math.log(2) * (steps + 1) / (steps - 0.5)
        if next_bit is not None:
            bit_gradient[next_bit.rows] = _next_bit_gradient(rows, gradient, next_bit)
        return gradient, bit_gradient, _dead_gradient(total, grid, _zone_slope(grid, dead)), None, None


def _next_bit_gradient(rows: Tensor, gradient: Tensor, next_bit: _NextBit) -> Tensor:
    """<dL/dw_hat, Q_{b+1}(w) - Q_b(w)> of the rows with fewer than two bits [M]; rows, gradient [R, n]."""
    low_bit_rows = next_bit.rows
    gain = next_bit.current.scale.new_empty(len(low_bit_rows))
    for chunk in chunks(rows[:1].expand(len(low_bit_rows), -1)):
        weight = rows[low_bit_rows[chunk]]
        step = next_bit.above.select(chunk).quantize(weight).sub_(next_bit.current.select(chunk).quantize(weight))
        gain[chunk] = torch.linalg.vecdot(gradient[low_bit_rows[chunk]], step, dim=1)
    return gain


def _zone_slope(grid: Grid, dead: Tensor) -> Tensor:
    """dd / d dead [R], computed from the grid: the dead zone is proportional to `dead`."""
    assert grid.shift is not None
    return (2 * grid.shift + grid.scale) / dead.clamp_min(1e-12)
