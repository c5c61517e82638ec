"""Options of the roundings of groups: each problem is said with its own key and value."""

from __future__ import annotations

import pytest
from fairquant_fair.block_rounding import Block
from fairquant_fair.fair_gptq import FairGptq


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": -1}, "rounds: must not be negative, got -1"), ({"sweeps": -2}, "sweeps: must not be negative, got -2"),
        ({"step": -5.0}, r"step: must be above 0, got -5\.0"), ({"damping": 0.0}, r"damping: must be above 0, got 0\.0"),
        ({"step": float("nan")}, "step: must be above 0, got nan"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [FairGptq, Block])
def test_options_out_of_range_are_named(kind, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind(**options)


def test_a_weight_starts_within_its_cell():
    with pytest.raises(ValueError, match=r"^towards_weight: must be at least 0 and below 1, got 1\.0$"):
        Block(towards_weight=1.0)
