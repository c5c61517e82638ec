"""Either file opened, or refused whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fairquant.errors import UserError
from fairquant.export.runtime import open_runtime


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Truncated, altered, overwritten, lengthened, spliced."""
    draw = np.random.default_rng(7)
    for number in range(count):
        kind, at = number % 5, int(draw.integers(0, len(content)))
        changed = bytearray(content)
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            changed[at] ^= int(draw.integers(1, 256))
        elif kind == 2:
            changed[at : at + 64] = draw.bytes(64)
        elif kind == 3:
            changed += draw.bytes(int(draw.integers(1, 4000)))
        else:
            del changed[at : at + int(draw.integers(1, 5000))]
        if bytes(changed) != content:
            yield bytes(changed)


@pytest.mark.parametrize("format", ["untrained_artifact", "untrained_export"])
def test_two_hundred_mutated_files_are_refused(format, request, tmp_path):
    """Every altered byte is: both formats have a checksum over the whole file."""
    source = request.getfixturevalue(format)
    bad, refused = tmp_path / f"bad{source.suffix}", 0
    for changed in mutations(source.read_bytes(), 220):
        bad.write_bytes(changed)
        with pytest.raises(UserError, match=r"bad\."):
            open_runtime(bad)
        refused += 1
    assert refused >= 200
