"""Symmetric uniform quantization with a straight-through gradient: the FairQuant paper's quantizer (arXiv 2602.23192)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer, row_bits, rows_of
from fairquant_paper.grids import (
    Grid,
    chunks,
    clipping_of,
    code_range,
    mse_clipping,
    row_statistics,
    uniform_grid,
)

Scale = Literal["absmax", "mse", "learned"]


@dataclass(frozen=True)
class Uniform:
    """w_hat = s * clamp(round(w / s), -q, q), q = 2^(b-1) - 1, one scale s per output channel.

    scale: "absmax" s = max|w| / q (the paper); "mse" clips where the squared error is least, at a ratio of the channel's
    maximum that is determined when the quantizer is attached; "learned" is LSQ (arXiv 1902.08153): s is a parameter that
    starts at the mse scale, its gradient scaled by 1/sqrt(n q). b = 1 is sign(w) * mean|w| (learned: * s); b = 0 prunes
    the unit.
    """

    scale: Scale = "mse"

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        """weight [out, ...], bits [U] -> the module."""
        return UniformWeightQuantizer(weight, bits, self.scale)


class UniformWeightQuantizer(WeightQuantizer):
    """width [U] int64; clip [R]: ratio of max|w|; log_scale [R]: logarithm of the learned scale, so that one learning
    rate suits scales of any magnitude."""

    clip: Tensor

    def __init__(self, weight: Tensor, bits: Tensor, scale: Scale) -> None:
        """weight [out, ...], bits [U]; scale: see `Uniform`."""
        super().__init__(bits)
        self.kind = scale
        rows = rows_of(weight.detach())
        self.register_buffer("clip", rows.new_ones(len(rows)))
        self.log_scale = nn.Parameter(rows.new_zeros(len(rows))) if scale == "learned" else None
        self._initialize(rows, bits.to(rows.device))

    @torch.no_grad()
    def _initialize(self, rows: Tensor, bits: Tensor) -> None:
        """Clipping ratios and learned scales from weights [R, n] and bits [U]."""
        bits = row_bits(bits, len(rows))
        if self.kind != "absmax":
            self.clip.copy_(mse_clipping(rows, bits))
        if self.log_scale is not None:
            limit, mean = row_statistics(rows, need_mean=True)
            self.log_scale.copy_(uniform_grid(limit * self.clip, mean, bits).scale.log())

    @torch.no_grad()
    def start_from(self, stored: QuantizedWeight) -> None:
        """The scales of a rounded weight, also where its largest codes are missing."""
        if self.log_scale is not None:
            self.log_scale.copy_(stored.scale.clamp_min(1e-12).log())
        self.clip.copy_(clipping_of(stored))

    def grid(self, rows: Tensor) -> Grid:
        """The grid of weights [R, n] at the current bits."""
        bits = row_bits(self.width, len(rows))
        if self.log_scale is not None:
            return Grid(self.log_scale.detach().exp(), *code_range(bits))
        limit, mean = row_statistics(rows, need_mean=bool((bits == 1).any()))
        return uniform_grid(limit * self.clip, mean, bits)

    def forward(self, weight: Tensor) -> Tensor:
        """weight [out, ...] -> quantized weight of the same shape, differentiable."""
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
        """What is stored of a weight [out, ...]; decodes to `forward` bit for bit."""
        rows = rows_of(weight)
        grid = self.grid(rows)
        codes = torch.cat([grid.select(chunk).codes(rows[chunk]).to(torch.int8) for chunk in chunks(rows)])
        bits = row_bits(self.width, len(rows)).clone()
        return QuantizedWeight(codes=codes, bits=bits, scale=grid.scale, shape=tuple(weight.shape))


def quantize_rows(rows: Tensor, grid: Grid) -> Tensor:
    """Weights [R, n] rounded to the grid [R, n], chunk by chunk on CPUs; equals `Grid.quantize` bit for bit."""
    if rows.device.type != "cpu":
        return grid.quantize(rows)
    out = torch.empty_like(rows)
    for chunk in chunks(rows):
        chunk_grid = grid.select(chunk)
        codes = chunk_grid.codes(rows[chunk])
        quantized = torch.mul(codes, chunk_grid.scale[:, None], out=out[chunk])
        if chunk_grid.shift is not None:
            quantized.addcmul_(codes.sign_(), chunk_grid.shift[:, None])  # as dequantize, without its copies
    return out


class _StraightThrough(torch.autograd.Function):
    """Quantize; the gradient passes as if the weight had not been quantized (Bengio et al., 2013)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, grid: Grid) -> Tensor:
        return quantize_rows(rows, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _LearnedStep(torch.autograd.Function):
    """LSQ: straight through inside the range, no gradient outside; d w_hat / d s = code - w/s inside, code outside."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, log_scale: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.grid = grid
        return quantize_rows(rows, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (rows,) = ctx.saved_tensors
        grid: Grid = ctx.grid
        weight_gradient = torch.empty_like(gradient)
        scale_gradient = torch.empty_like(grid.scale)
        for chunk in chunks(rows):
            chunk_grid = grid.select(chunk)
            codes = chunk_grid.codes(rows[chunk])
            position = rows[chunk] / chunk_grid.scale[:, None]
            signs = (chunk_grid.least == 1)[:, None]
            inside = (position.abs() <= chunk_grid.largest[:, None]) | signs
            codes.sub_(position.mul_(inside & ~signs))
            scale_gradient[chunk] = torch.linalg.vecdot(gradient[chunk], codes, dim=1)
            torch.mul(gradient[chunk], inside, out=weight_gradient[chunk])
        damping = 1 / torch.sqrt(rows.shape[1] * grid.largest.clamp_min(1))
        return weight_gradient, scale_gradient * damping * grid.scale, None
