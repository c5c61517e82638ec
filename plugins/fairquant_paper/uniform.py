"""Symmetric uniform quantization with a straight-through gradient (reference 1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairquant.roles.quantizer import (
    QuantizedWeight,
    WeightQuantizer,
    row_bits,
    rows_of,
)
from fairquant_paper.grids import Grid, code_range, mse_clipping, row_statistics, stretches, uniform_grid

Scale = Literal["absmax", "mse", "learned"]


@dataclass(frozen=True)
class Uniform:
    """w_hat = s * clamp(round(w / s), -q, q), q = 2^(b-1) - 1, one scale s per output channel.

    scale: "absmax" s = max|w| / q (the paper); "mse" clips where the squared error is least, at the channel's ratio
    of its maximum found when attached; "learned" is LSQ (arXiv 1902.08153): s is a parameter started at mse, its
    gradient scaled by 1/sqrt(n q). b = 1 is sign(w) * mean|w| (learned: * s); b = 0 prunes the unit.
    """

    scale: Scale = "mse"

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        return UniformWeightQuantizer(weight, bits, self.scale)


class UniformWeightQuantizer(WeightQuantizer):
    """width [U] int64; clip [R]: ratio of max|w|; log_scale [R]: the learnt scale's logarithm, so that one learning
    rate suits scales of any size."""

    clip: Tensor

    def __init__(self, weight: Tensor, bits: Tensor, scale: Scale) -> None:
        super().__init__(bits)
        self.kind = scale
        rows = rows_of(weight.detach())
        self.register_buffer("clip", rows.new_ones(len(rows)))
        self.log_scale = nn.Parameter(rows.new_zeros(len(rows))) if scale == "learned" else None
        self._start(rows, bits.to(rows.device))

    @torch.no_grad()
    def _start(self, rows: Tensor, bits: Tensor) -> None:
        bits = row_bits(bits, len(rows))
        if self.kind != "absmax":
            self.clip.copy_(mse_clipping(rows, bits))
        if self.log_scale is not None:
            limit, mean = row_statistics(rows, need_mean=True)
            self.log_scale.copy_(uniform_grid(limit * self.clip, mean, bits).scale.log())

    def grid(self, rows: Tensor) -> Grid:
        bits = row_bits(self.width, len(rows))
        if self.log_scale is not None:
            return Grid(self.log_scale.detach().exp(), *code_range(bits))
        limit, mean = row_statistics(rows, need_mean=bool((bits == 1).any()))
        return uniform_grid(limit * self.clip, mean, bits)

    def forward(self, weight: Tensor) -> Tensor:
        rows = rows_of(weight)
        with torch.no_grad():
            grid = self.grid(rows)
        quantized: Tensor = (
            _StraightThrough.apply(rows, grid)
            if self.log_scale is None
            else _LearnedStep.apply(rows, self.log_scale, grid)
        )
        return quantized.view_as(weight)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> QuantizedWeight:
        rows = rows_of(weight)
        grid = self.grid(rows)
        codes = torch.cat([grid.part(part).codes(rows[part]).to(torch.int8) for part in stretches(rows)])
        return QuantizedWeight(codes, row_bits(self.width, len(rows)).clone(), grid.scale, tuple(weight.shape))


def quantize_rows(rows: Tensor, grid: Grid) -> Tensor:
    """The grid's weights, stretch by stretch."""
    if rows.device.type != "cpu":
        return grid.quantize(rows)
    out = torch.empty_like(rows)
    for part in stretches(rows):
        piece = grid.part(part)
        codes = piece.codes(rows[part])
        here = torch.mul(codes, piece.scale[:, None], out=out[part])
        if piece.shift is not None:
            here.addcmul_(codes.sign_(), piece.shift[:, None])  # as dequantize, without its copies
    return out


class _StraightThrough(torch.autograd.Function):
    """Quantize; the gradient passes as if nothing had happened (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, grid: Grid) -> Tensor:
        return quantize_rows(rows, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


class _LearnedStep(torch.autograd.Function):
    """LSQ: straight through inside the range, none outside; d w_hat / d s = code - w/s inside, code outside."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, log_scale: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.grid = grid
        return quantize_rows(rows, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        grid: Grid = ctx.grid
        to_weight = torch.empty_like(gradient)
        to_scale = torch.empty_like(grid.scale)
        for part in stretches(rows):
            piece = grid.part(part)
            codes = piece.codes(rows[part])
            position = rows[part] / piece.scale[:, None]
            signs = (piece.least == 1)[:, None]
            inside = (position.abs() <= piece.largest[:, None]) | signs
            codes.sub_(position.mul_(inside & ~signs))
            to_scale[part] = torch.linalg.vecdot(gradient[part], codes, dim=1)
            torch.mul(gradient[part], inside, out=to_weight[part])
        damp = 1 / torch.sqrt(rows.shape[1] * grid.largest.clamp_min(1))
        return to_weight, to_scale * damp * grid.scale, None
