"""Codes survive packing, at exactly b bits each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.bits.packing import pack, packed_bytes, unpack
from fairquant.roles import QuantizedWeight


def random_codes(bits: torch.Tensor, columns: int, seed: int) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    rows = []
    for width in bits.tolist():
        if width == 0:
            rows.append(np.zeros(columns))
        elif width == 1:
            rows.append(draw.choice([-1, 1], columns))
        else:
            top = 2 ** (width - 1) - 1
            rows.append(draw.integers(-top, top + 1, columns))
    return torch.tensor(np.array(rows).reshape(len(bits), columns), dtype=torch.int8)


@settings(max_examples=60, deadline=None)
@given(widths=st.lists(st.integers(0, 8), min_size=1, max_size=20), columns=st.integers(1, 33), seed=st.integers(0, 99))
def test_codes_survive_packing(widths, columns, seed):
    bits = torch.tensor(widths)
    codes = random_codes(bits, columns, seed)
    packed = pack(QuantizedWeight(codes=codes, bits=bits, scale=torch.ones(len(bits)), shape=(len(bits), columns)))
    assert torch.equal(unpack(packed, bits, columns), codes)
    assert len(packed) == packed_bytes(bits, columns)
    exact = sum(widths) * columns / 8
    assert exact <= len(packed) < exact + 8  # at most a byte of padding for each width


def test_a_wrong_length_is_refused():
    bits = torch.tensor([3, 3])
    packed = pack(QuantizedWeight(codes=random_codes(bits, 8, 0), bits=bits, scale=torch.ones(2), shape=(2, 8)))
    with pytest.raises(ValueError, match="more expected"):
        unpack(packed[:-1], bits, 8)
    with pytest.raises(ValueError, match="expected"):
        unpack(np.append(packed, 0).astype(np.uint8), bits, 8)
