"""The checksum covers every byte."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from fairquant_paper.baq import Baq
from helpers.artifacts import saved

import fairquant
from fairquant.errors import UserError


def test_any_altered_byte_is_refused(tmp_path, strange):
    path, _, _ = saved(tmp_path, strange, Baq())
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    places = {0, 7, 8, 9, 20, len(content) - 1, *draw.integers(0, len(content), 250).tolist()}
    header_end = 8 + int.from_bytes(content[:8], "little")
    places |= set(range(header_end - 6, header_end)) | {content.index(b'"checksum"') + 15}
    damaged = tmp_path / "damaged.safetensors"
    for place in places:
        for flip in (0x01, 0x80, ord(" ") ^ ord("\n")):
            altered = bytearray(content)
            altered[place] ^= flip
            damaged.write_bytes(altered)
            with pytest.raises(UserError, match="damaged"):
                fairquant.load(damaged, model=copy.deepcopy(strange))
