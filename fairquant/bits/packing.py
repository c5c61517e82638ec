"""Codes of b bits each, packed b bits each: units of like width together, in one chunk of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairquant.roles.quantizer import QuantizedWeight

Bytes = NDArray[np.uint8]


def pack(weight: QuantizedWeight) -> Bytes:
    """The codes as bytes: rows of 1 bit first, then of 2, ... 8; each width padded to a whole byte."""
    bits, codes = weight.bits.cpu().numpy(), weight.codes.cpu().numpy()
    parts = []
    for width in range(1, 9):
        rows = codes[bits == width]
        if len(rows):
            parts.append(_pack_width(_unsigned(rows, width, weight.codebook is not None).ravel(), width))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unpack(packed: Bytes, bits: Tensor, columns: int, codebook: bool = False) -> Tensor:
    """The inverse of `pack`: int8 codes [rows, columns]. Raises ValueError where the length does not fit."""
    widths = bits.cpu().numpy()
    codes = np.zeros((len(widths), columns), np.int8)
    at = 0
    for width in range(1, 9):
        rows = np.flatnonzero(widths == width)
        if not len(rows):
            continue
        count = len(rows) * columns
        length = (count * width + 7) // 8
        packed_rows = packed[at : at + length]
        if len(packed_rows) != length:
            raise ValueError(f"{len(packed)} bytes of codes, more expected")
        codes[rows] = _signed(_unpack_width(packed_rows, width, count), width, codebook).reshape(len(rows), columns)
        at += length
    if at != len(packed):
        raise ValueError(f"{len(packed)} bytes of codes, {at} expected")
    return torch.from_numpy(codes)


def pack_nibbles(values: Bytes, low_first: bool) -> Bytes:
    """Values below 16 [N], two to a byte [ceil(N / 2)]; the first of each pair in the lower half where low_first."""
    pairs = np.append(values, np.zeros(len(values) % 2, np.uint8)).astype(np.uint8).reshape(-1, 2)
    low, high = (pairs[:, 0], pairs[:, 1]) if low_first else (pairs[:, 1], pairs[:, 0])
    return (low | (high << 4)).astype(np.uint8)


def packed_bytes(bits: Tensor, columns: int) -> int:
    """Length in bytes of `pack`'s result for rows of widths bits [rows]."""
    counts = torch.bincount(bits.cpu(), minlength=9)
    return sum((int(counts[width]) * columns * width + 7) // 8 for width in range(1, 9))


def _offset(width: int, codebook: bool) -> int:
    """What is added to a code so that it starts at 0: symmetric codes start at -(2^(b-1)-1), codebook codes at -2^(b-1)."""
    return (1 << (width - 1)) - (not codebook)


def _unsigned(codes: NDArray[Any], width: int, codebook: bool) -> Any:
    """Signs (-1, +1) become 0, 1; other codes are shifted to start at 0."""
    if width == 1:
        return (codes > 0).astype(np.uint8)
    return (codes.astype(np.int16) + _offset(width, codebook)).astype(np.uint8)


def _signed(values: Bytes, width: int, codebook: bool) -> Any:
    if width == 1:
        return (values.astype(np.int8) * 2 - 1).astype(np.int8)
    return (values.astype(np.int16) - _offset(width, codebook)).astype(np.int8)


def _pack_width(values: Bytes, width: int) -> Bytes:
    if width == 8:
        return values
    spread = np.unpackbits(values[:, None], axis=1, count=8)[:, 8 - width :]
    return np.packbits(spread)


def _unpack_width(packed: Bytes, width: int, count: int) -> Any:
    if width == 8:
        return packed
    spread = np.unpackbits(packed, count=count * width).reshape(count, width)
    return np.packbits(spread, axis=1).ravel() >> (8 - width)
