"""BAQ, bit-aware quantization: the bits and the dead zone of every unit are parameters (reference 1.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer, row_bits, rows_of
from fairquant_paper.grids import Grid, code_range, mse_clipping, row_statistics, stretches
from fairquant_paper.uniform import quantize_rows

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
    where there is no step, it takes the finite difference, so that a pruned unit feels what it would be worth.
    scale: the clipping c. "absmax" max|w| with dead zone d = (1 - tanh|theta_d|) c, theta_d = -6 at the start (the
    paper); "quantile" the 99 % quantile of |w| at the start, as a ratio of max|w|; "mse" the ratio of least squared
    error at each width, with the dead zone in steps, d = 2 (1 - tanh|theta_d|) c / q, started at the uniform grid.
    Learnt bits are whole again after the engine settles them within the budget.
    """

    gradient: BitGradient = "step"
    scale: Scale = "mse"

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        return BaqWeightQuantizer(weight, bits, (min(choices), max(choices)), self.gradient, self.scale)


class BaqWeightQuantizer(WeightQuantizer):
    """bit_logits [U] = theta_b, dead_logits [U] = theta_d, clip [R, 9]: ratio of max|w| by width; settled: bits are fixed."""

    clip: Tensor
    settled: Tensor

    def __init__(
        self, weight: Tensor, bits: Tensor, reach: tuple[int, int], gradient: BitGradient, scale: Scale
    ) -> None:
        super().__init__(bits)
        rows = rows_of(weight.detach())
        low, high = min(reach[0], int(bits.min())), max(reach[1], int(bits.max()))
        self.low, self.high, self.gradient, self.kind = low, high, gradient, scale
        share = ((bits.float() - low) / max(high - low, 1)).clamp(0.01, 0.99)
        start = math.atanh(0.5) if scale == "mse" else -6.0
        self.bit_logits = nn.Parameter(torch.atanh(share).to(rows.device))
        self.dead_logits = nn.Parameter(torch.full_like(self.bit_logits, start))
        self.register_buffer("clip", self._clipping(rows, scale))
        self.register_buffer("settled", torch.tensor(False))

    def _clipping(self, rows: Tensor, scale: Scale) -> Tensor:
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
        return not bool(self.settled)

    def bits(self) -> Tensor:
        """Bits of each unit [U]: real numbers while they are learnt, whole once settled."""
        if bool(self.settled):
            return self.width.float()
        assert self.bit_logits is not None
        return torch.tanh(self.bit_logits.abs()) * (self.high - self.low) + self.low

    def freeze(self, bits: Tensor) -> None:
        with torch.no_grad():
            self.width.copy_(bits)
            self.settled.fill_(True)
        assert self.bit_logits is not None
        self.bit_logits.requires_grad_(False)

    def grid(self, rows: Tensor, bits: Tensor, dead: Tensor, statistics: tuple[Tensor, Tensor]) -> Grid:
        """The grid at whole bits [R]; dead [R] = 1 - tanh|theta_d|."""
        limit, mean = statistics
        clip = limit * self.clip.gather(1, bits[:, None].clamp_max(8))[:, 0]
        least, largest = code_range(bits)
        whole = largest.clamp_min(1)
        zone = (2 * dead * clip / whole if self.kind == "mse" else dead * clip).clamp_max(1.9 * clip)
        scale = ((clip - zone / 2) / (whole - 0.5)).clamp_min(1e-12)
        shift = zone / 2 - scale / 2
        signs = bits == 1
        return Grid(torch.where(signs, mean, scale), least, largest, torch.where(signs, 0.0, shift))

    def _dead(self, rows: int) -> Tensor:
        return row_bits(1 - torch.tanh(self.dead_logits.abs()), rows)

    def forward(self, weight: Tensor) -> Tensor:
        rows = rows_of(weight)
        dead = self._dead(len(rows))
        learning = self.training and not bool(self.settled)
        bits = row_bits(self.bits(), len(rows))
        with torch.no_grad():
            whole = self._whole_bits(len(rows))
            lower = bits.floor().clamp(self.low, max(self.high - 1, self.low)) if learning else bits
            below = lower.to(torch.int64)
            fractional = learning and self.gradient == "fractional"
            low = below if fractional else whole
            statistics = row_statistics(rows, need_mean=bool((torch.minimum(low, below) <= 1).any()))
            grid = self.grid(rows, low, dead, statistics)
        if fractional:
            with torch.no_grad():
                above = self.grid(rows, (low + 1).clamp_max(self.high), dead, statistics)
            mixed: Tensor = _Fractional.apply(rows, bits - low, dead, grid, above)  # type: ignore[no-untyped-call]
            return mixed.view_as(weight)
        with torch.no_grad():
            few = torch.nonzero(bits < 2)[:, 0] if learning and self.high > self.low else whole[:0]
            next_bit = (
                [self.grid(rows, below + more, dead, statistics).part(few) for more in (0, 1)] if len(few) else []
            )
        stepped: Tensor = _Step.apply(rows, bits, dead, grid, few, next_bit)  # type: ignore[no-untyped-call]
        return stepped.view_as(weight)

    def _whole_bits(self, rows: int) -> Tensor:
        if bool(self.settled):
            return row_bits(self.width, rows)
        return row_bits(self.bits().detach().round().to(torch.int64), rows)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> QuantizedWeight:
        rows = rows_of(weight)
        bits = self._whole_bits(len(rows))
        statistics = row_statistics(rows, need_mean=bool((bits <= 1).any()))
        grid = self.grid(rows, bits, self._dead(len(rows)), statistics)
        codes = torch.cat([grid.part(part).codes(rows[part]).to(torch.int8) for part in stretches(rows)])
        return QuantizedWeight(codes, bits.clone(), grid.scale, tuple(weight.shape), grid.shift)


def _dead_zone_gradient(rows: Tensor, out: Tensor, gradient: Tensor, grid: Grid) -> Tensor:
    """sum over quantized weights of dL/dw_hat * (w_hat - w) [R]: what both dL/ds and dL/dd rest on.

    Inside the range d w_hat / d s = k - k_real = (w_hat - w) / s (sign included), where k_real is the code before
    rounding; in the dead zone and beyond the clipping w_hat does not move with s.
    """
    total = torch.empty_like(grid.scale)
    assert grid.shift is not None
    top = (grid.largest * grid.scale + grid.shift)[:, None]
    for part in stretches(rows):
        residual = out[part] - rows[part].clamp(-top[part], top[part])
        residual.mul_(out[part].sign().abs_())
        total[part] = torch.linalg.vecdot(gradient[part], residual, dim=1)
    return total * (1 - grid.least)


def _to_dead(total: Tensor, grid: Grid, clip_over_step: Tensor) -> Tensor:
    """dL/d dead: dead moves d, d moves s by -1/(2q - 1), s moves w_hat by (w_hat - w)/s."""
    return -total * clip_over_step / (2 * grid.largest.clamp_min(1) - 1) / grid.scale


class _Fractional(torch.autograd.Function):
    """(1-f) Q_b(w) + f Q_{b+1}(w). Straight through to w; dL/df = <dL/dw_hat, Q_{b+1} - Q_b> per row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, fraction: Tensor, dead: Tensor, grid: Grid, above: Grid) -> Tensor:
        out, step = torch.empty_like(rows), torch.empty_like(rows)
        for part in stretches(rows):
            here = grid.part(part).quantize(rows[part])
            torch.sub(above.part(part).quantize(rows[part]), here, out=step[part])
            torch.addcmul(here, step[part], fraction[part][:, None], out=out[part])
        ctx.save_for_backward(rows, out, step, dead)
        ctx.grid = grid
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        rows, out, step, dead = ctx.saved_tensors
        to_fraction = torch.empty_like(dead)
        for part in stretches(rows):
            to_fraction[part] = torch.linalg.vecdot(gradient[part], step[part], dim=1)
        total = _dead_zone_gradient(rows, out, gradient, ctx.grid)
        return gradient, to_fraction, _to_dead(total, ctx.grid, _zone_slope(ctx.grid, dead)), None, None


class _Step(torch.autograd.Function):
    """Q at rounded bits. dL/db = dL/ds ds/dq dq/db with s = (c - d/2)/(q - 1/2), q = 2^(b-1) - 1; for the rows `few`
    [M], dL/db = <dL/dw_hat, Q_{b+1} - Q_b>, next_bit their two grids."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, bits: Tensor, dead: Tensor, grid: Grid, few: Tensor, next_bit: list[Grid]
    ) -> Tensor:
        out = quantize_rows(rows, grid)
        ctx.save_for_backward(rows, out, dead, few)
        ctx.grid, ctx.next_bit = grid, next_bit
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # type: ignore[override]
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return gradient, None, None, None, None, None  # type: ignore[return-value]
        rows, out, dead, few = ctx.saved_tensors
        grid: Grid = ctx.grid
        total = _dead_zone_gradient(rows, out, gradient, grid)
        whole = grid.largest.clamp_min(1)
        to_bits = -total * math.log(2) * (whole + 1) / (whole - 0.5)
        if len(few):
            to_bits[few] = _next_bit_gradient(rows, gradient, few, *ctx.next_bit)
        return gradient, to_bits, _to_dead(total, grid, _zone_slope(grid, dead)), None, None, None


def _next_bit_gradient(rows: Tensor, gradient: Tensor, few: Tensor, here: Grid, above: Grid) -> Tensor:
    """<dL/dw_hat, Q_{b+1}(w) - Q_b(w)> of the rows `few` [M]."""
    worth = here.scale.new_empty(len(few))
    for part in stretches(rows[:1].expand(len(few), -1)):
        weight = rows[few[part]]
        step = above.part(part).quantize(weight).sub_(here.part(part).quantize(weight))
        worth[part] = torch.linalg.vecdot(gradient[few[part]], step, dim=1)
    return worth


def _zone_slope(grid: Grid, dead: Tensor) -> Tensor:
    """dd / d dead, read off the grid: the zone is proportional to `dead`."""
    assert grid.shift is not None
    return (2 * grid.shift + grid.scale) / dead.clamp_min(1e-12)
