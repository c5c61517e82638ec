"""A codebook per layer and width whose codewords track the weights (ADQ, arXiv 2510.19760)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer, look_up, row_bits, rows_of


@dataclass(frozen=True)
class CodebookEma:
    """Each weight becomes the nearest of 2^b codewords, times its channel's root mean square; one codebook per layer and
    width.

    Codewords start at quantiles of the layer's scaled weights, (k + 1/2) / 2^b, and take `refine` steps of k-means. During
    training they follow by exponential moving averages: N_k <- g N_k + (1-g) n_k, m_k <- g m_k + (1-g) sum of the
    scaled weights in k, codeword k = m_k / N_k, g = `decay`. The gradient passes straight through; b = 0 prunes the unit.
    From quantiles, k-means finds good codewords for up to about 4 bits; with 6 and more a uniform grid has less error.
    The EMA form, k-means at the start, the channel scale and sharing codewords within a layer are our reconstruction of
    ADQ's adaptive codebook.
    """

    decay: float = 0.99
    refine: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: must be in [0, 1), got {self.decay!r}")
        if self.refine < 0:
            raise ValueError(f"refine: must not be negative, got {self.refine!r}")

    def build(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...]) -> WeightQuantizer:
        """weight [out, ...], bits [U] -> the module, with a codebook for every width in `choices` and `bits`."""
        return CodebookWeightQuantizer(weight, bits, choices, self.decay, self.refine)


class CodebookWeightQuantizer(WeightQuantizer):
    """width [U] int64; codewords, counts (N), sums (m) [9, 256]: row b belongs to width b, whose first 2^b entries are
    used; gain [R]: of the scale, relative to the root mean square."""

    codewords: Tensor
    gain: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...], decay: float, refine: int) -> None:
        """weight [out, ...], bits [U]; choices: widths that the bits may change to; decay, refine: see `CodebookEma`."""
        super().__init__(bits.to(weight.device))
        self.decay, self.refine = decay, refine
        rows = rows_of(weight.detach())
        for name in ("codewords", "counts", "sums"):
            self.register_buffer(name, rows.new_zeros(9, 256))
        self.register_buffer("gain", rows.new_ones(len(rows)))
        self._initialize(rows, choices)

    @torch.no_grad()
    def start_from(self, stored: QuantizedWeight) -> None:
        """The codewords and the scales of a rounded weight. The averages that the codewords follow are those of its codes."""
        assert stored.codebook is not None
        rows = rows_of(stored.decode())
        norm = rows.square().mean(1).sqrt()
        self.gain.copy_(torch.where(norm > 0, stored.scale / norm.clamp_min(1e-12), 1.0))
        for width in _widths(stored.bits):
            count = _counts(stored.codes[stored.bits == width], width).to(rows.dtype)
            self.codewords[width] = stored.codebook[width]
            self.counts[width, : 2**width] = count
            self.sums[width] = self.counts[width] * self.codewords[width]

    def forward(self, weight: Tensor) -> Tensor:
        """weight [out, ...] -> quantized weight of the same shape; in training mode the moving averages are updated."""
        rows = rows_of(weight)
        learning = self.training and torch.is_grad_enabled()
        with torch.no_grad():
            if learning:
                self._update_codewords()
            codes, scale = self._codes(rows)
            if learning:
                self._update_averages(rows / scale[:, None], codes)
            quantized = look_up(codes, self._bits(rows), scale, self.codewords)
        passed: Tensor = _StraightThrough.apply(rows, quantized)
        return passed.view_as(weight)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> QuantizedWeight:
        """What is stored of a weight [out, ...]: codes, scales, and the codebooks of the widths in use."""
        rows = rows_of(weight)
        codes, scale = self._codes(rows)
        bits = self._bits(rows).clone()
        used = (bits[:, None] == torch.arange(9, device=bits.device)).any(0) & (torch.arange(9, device=bits.device) > 0)
        codebook = torch.where(used[:, None], self.codewords, 0.0)
        return QuantizedWeight(codes=codes, bits=bits, scale=scale, shape=tuple(weight.shape), codebook=codebook)

    def _bits(self, rows: Tensor) -> Tensor:
        """Bits of each row [R]."""
        return row_bits(self.width, len(rows))

    @torch.no_grad()
    def _initialize(self, rows: Tensor, choices: tuple[int, ...]) -> None:
        """Quantiles of the scaled weights [R, n], then k-means steps; a width that no channel has yet uses all channels."""
        scaled, bits = rows / root_mean_square(rows)[:, None], self._bits(rows)
        every_value: Tensor | None = None
        for width in sorted({*choices, *bits.tolist()} - {0}):
            if bool((bits == width).any()):
                values = scaled[bits == width].flatten().sort().values
            else:
                values = every_value = scaled.flatten().sort().values if every_value is None else every_value
            quantiles = (torch.arange(2**width, device=rows.device) + 0.5) / 2**width
            codewords = values[(quantiles * len(values)).long().clamp(max=len(values) - 1)]
            running = torch.cat([values.new_zeros(1, dtype=torch.double), values.double().cumsum(0)])
            for _ in range(self.refine):
                positions = torch.searchsorted(values, _cell_edges(codewords))
                count = positions.diff()
                mean = (running[positions].diff() / count.clamp_min(1)).to(codewords.dtype)
                codewords = torch.where(count > 0, mean, codewords).sort().values
            count = torch.searchsorted(values, _cell_edges(codewords)).diff().to(codewords.dtype)
            self.codewords[width, : 2**width] = codewords
            self.counts[width, : 2**width] = count
            self.sums[width, : 2**width] = count * codewords

    def _codes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [R, n] -> int8 codes [R, n] and scales [R] with the current codewords."""
        scale, bits = root_mean_square(rows) * self.gain, self._bits(rows)
        codes = torch.zeros(rows.shape, dtype=torch.int8, device=rows.device)
        for width in _widths(bits):
            members = bits == width
            codewords = self.codewords[width, : 2**width]
            number = torch.bucketize(rows[members] / scale[members, None], _midpoints(codewords))
            codes[members] = ((number * 2 - 1) if width == 1 else (number - 2 ** (width - 1))).to(torch.int8)
        return codes, scale

    def _update_averages(self, scaled: Tensor, codes: Tensor) -> None:
        """Add this step's scaled weights [R, n] and codes [R, n] to the moving averages; the codewords follow at the next
        step."""
        bits = self._bits(scaled)
        for width in _widths(bits):
            members = bits == width
            values, number = scaled[members].flatten(), _numbers(codes[members], width)
            count = _counts(codes[members], width).to(values.dtype)
            total = torch.zeros_like(count).index_add_(0, number, values)
            self.counts[width, : 2**width].mul_(self.decay).add_(count, alpha=1 - self.decay)
            self.sums[width, : 2**width].mul_(self.decay).add_(total, alpha=1 - self.decay)

    def _update_codewords(self) -> None:
        """codeword k = m_k / N_k; codewords to which no weight is assigned stay unchanged."""
        moved = torch.where(self.counts > 1e-3, self.sums / self.counts.clamp_min(1e-3), self.codewords)
        for width in _widths(self.width):
            order = moved[width, : 2**width].argsort(stable=True)
            for table in (moved, self.counts, self.sums):
                table[width, : 2**width] = table[width, : 2**width][order]
        self.codewords.copy_(moved)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, quantized: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _widths(bits: Tensor) -> list[int]:
    """The widths that occur in bits [R], ascending, without 0."""
    return sorted({*bits.tolist()} - {0})


def _numbers(codes: Tensor, width: int) -> Tensor:
    """Codes of rows with one width -> the numbers of their codewords, one after the other."""
    flat = codes.long().flatten()
    return (flat + 1) // 2 if width == 1 else flat + 2 ** (width - 1)


def _counts(codes: Tensor, width: int) -> Tensor:
    """How many codes have each of the 2^width codewords."""
    return torch.bincount(_numbers(codes, width), minlength=2**width)


def root_mean_square(rows: Tensor) -> Tensor:
    """Weights [R, n] -> [R], never 0."""
    return rows.square().mean(1).sqrt().clamp_min(1e-12)


def _midpoints(codewords: Tensor) -> Tensor:
    """Boundaries between neighbouring codewords: [W] -> [W - 1]."""
    return (codewords[1:] + codewords[:-1]) / 2


def _cell_edges(codewords: Tensor) -> Tensor:
    """The boundaries with -inf and inf at the ends: [W] -> [W + 1]."""
    infinity = torch.full_like(codewords[:1], torch.inf)
    return torch.cat([-infinity, _midpoints(codewords), infinity])
