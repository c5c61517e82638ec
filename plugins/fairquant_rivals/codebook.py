"""A codebook per layer and width whose words follow the weights (ADQ, arXiv 2510.19760)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight, WeightQuantizer, look_up, row_bits, rows_of


@dataclass(frozen=True)
class CodebookEma:
    """Each weight becomes the nearest of 2^b words, times its channel's root mean square; one codebook a layer and width.

    Words start at quantiles of the layer's scaled weights, (k + 1/2) / 2^b, and take `refine` steps of k-means. While the
    model trains they follow by exponential moving averages: N_k <- g N_k + (1-g) n_k, m_k <- g m_k + (1-g) sum of the
    scaled weights in k, word k = m_k / N_k, g = `decay`. The gradient passes straight through; b = 0 prunes the unit.
    From quantiles k-means finds good words for up to about 4 bits; with 6 and more a uniform grid is closer.
    The EMA form, k-means at the start, the channel scale and sharing words within a layer are our reconstruction of
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
        return CodebookWeightQuantizer(weight, bits, choices, self.decay, self.refine)


class CodebookWeightQuantizer(WeightQuantizer):
    """width [U] int64; words, counts (N), sums (m) [9, 256]: row b belongs to width b, its first 2^b entries are in use."""

    words: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, weight: Tensor, bits: Tensor, choices: tuple[int, ...], decay: float, refine: int) -> None:
        super().__init__(bits.to(weight.device))
        self.decay, self.refine = decay, refine
        rows = rows_of(weight.detach())
        for name in ("words", "counts", "sums"):
            self.register_buffer(name, rows.new_zeros(9, 256))
        self._start(rows, choices)

    def forward(self, weight: Tensor) -> Tensor:
        rows = rows_of(weight)
        learning = self.training and torch.is_grad_enabled()
        with torch.no_grad():
            if learning:
                self._follow()
            codes, scale = self._codes(rows)
            if learning:
                self._average(rows / scale[:, None], codes)
            quantized = look_up(codes, self._bits(rows), scale, self.words)
        passed: Tensor = _StraightThrough.apply(rows, quantized)
        return passed.view_as(weight)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> QuantizedWeight:
        rows = rows_of(weight)
        codes, scale = self._codes(rows)
        bits = self._bits(rows).clone()
        used = torch.zeros(9, 1, dtype=torch.bool, device=bits.device)
        used[_widths(bits)] = True
        return QuantizedWeight(codes, bits, scale, tuple(weight.shape), codebook=torch.where(used, self.words, 0.0))

    def _bits(self, rows: Tensor) -> Tensor:
        return row_bits(self.width, len(rows))

    @torch.no_grad()
    def _start(self, rows: Tensor, choices: tuple[int, ...]) -> None:
        """Quantiles of the scaled weights, then k-means steps; widths that no channel has yet start from all of them."""
        scaled, bits = rows / root_mean_square(rows)[:, None], self._bits(rows)
        everything: Tensor | None = None
        for width in sorted({*choices, *bits.tolist()} - {0}):
            if bool((bits == width).any()):
                values = scaled[bits == width].flatten().sort().values
            else:
                values = everything = scaled.flatten().sort().values if everything is None else everything
            places = (torch.arange(2**width, device=rows.device) + 0.5) / 2**width
            words = values[(places * len(values)).long().clamp(max=len(values) - 1)]
            running = torch.cat([values.new_zeros(1, dtype=torch.double), values.double().cumsum(0)])
            for _ in range(self.refine):
                edges = torch.cat([words.new_tensor([-torch.inf]), _middles(words), words.new_tensor([torch.inf])])
                place = torch.searchsorted(values, edges)
                count = place.diff()
                mean = (running[place].diff() / count.clamp_min(1)).to(words.dtype)
                words = torch.where(count > 0, mean, words).sort().values
            edges = torch.cat([words.new_tensor([-torch.inf]), _middles(words), words.new_tensor([torch.inf])])
            count = torch.searchsorted(values, edges).diff().to(words.dtype)
            self.words[width, : 2**width] = words
            self.counts[width, : 2**width] = count
            self.sums[width, : 2**width] = count * words

    def _codes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """int8 codes [R, n] and scales [R] at the words as they stand."""
        scale, bits = root_mean_square(rows), self._bits(rows)
        codes = torch.zeros(rows.shape, dtype=torch.int8, device=rows.device)
        for width in _widths(bits):
            chosen = bits == width
            number = torch.bucketize(rows[chosen] / scale[chosen, None], _middles(self.words[width, : 2**width]))
            codes[chosen] = ((number * 2 - 1) if width == 1 else (number - 2 ** (width - 1))).to(torch.int8)
        return codes, scale

    def _average(self, scaled: Tensor, codes: Tensor) -> None:
        """The moving averages take in this step's weights; the words follow at the next step."""
        bits = self._bits(scaled)
        for width in _widths(bits):
            chosen = bits == width
            code = codes[chosen].long().flatten()
            number = (code + 1) // 2 if width == 1 else code + 2 ** (width - 1)
            values = scaled[chosen].flatten()
            count = torch.bincount(number, minlength=2**width).to(values.dtype)
            total = torch.zeros_like(count).index_add_(0, number, values)
            self.counts[width, : 2**width].mul_(self.decay).add_(count, alpha=1 - self.decay)
            self.sums[width, : 2**width].mul_(self.decay).add_(total, alpha=1 - self.decay)

    def _follow(self) -> None:
        """word k = m_k / N_k; words that nothing is near to stay where they are."""
        moved = torch.where(self.counts > 1e-3, self.sums / self.counts.clamp_min(1e-3), self.words)
        for width in _widths(self.width):
            order = moved[width, : 2**width].argsort(stable=True)
            for table in (moved, self.counts, self.sums):
                table[width, : 2**width] = table[width, : 2**width][order]
        self.words.copy_(moved)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, quantized: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _widths(bits: Tensor) -> list[int]:
    """The widths in use, but 0."""
    return sorted({*bits.tolist()} - {0})


def root_mean_square(rows: Tensor) -> Tensor:
    """[R, n] -> [R], never 0."""
    return rows.square().mean(1).sqrt().clamp_min(1e-12)


def _middles(words: Tensor) -> Tensor:
    """Where one word ends and the next begins."""
    return (words[1:] + words[:-1]) / 2
