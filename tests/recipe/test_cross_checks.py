"""What no section can check alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairquant.errors import UserError
from fairquant.recipe import read_recipe

TABLE = ["budget.average_bits=null", "budget.latency=3ms", "budget.latency_table=t.json", "quantize.units=tensor"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["quantize.choices=[4, 8]", "budget.average_bits=3"],
            "budget.average_bits: 3 is below the smallest of quantize.choices, 4",
        ),
        (
            ["method=uniform-4", "budget.average_bits=3"],
            "budget.average_bits: 3 is below the allocator's 4 bits everywhere",
        ),
        (["train.epochs=0"], "train.epochs: 0 epochs: set train.post_training: true"),
        (
            [*TABLE, "quantize.choices=[2, 4, 8]"],
            "quantize.choices: budget.latency_table has times for up to 4 bits only",
        ),
        ([*TABLE, "quantize.choices=[2, 4]", "quantize.units=channel"], "quantize.units: a layer runs in one kernel"),
        (
            ["method=fq-gptq", "train.narrow_until=0.5"],
            "train.narrow_until: rounding 'fair-gptq' has brought the weights",
        ),
        (
            ["method=fq-qat", "train.narrow_until=0.5", "train.replan=true"],
            "train.narrow_until: leave it out, or train.replan",
        ),
        (["method=uniform-4", "train.replan=true"], "train.replan: the method has no importance"),
        (["baseline.replan=true"], "baseline.replan: full precision has no bits to change"),
        (["baseline.narrow_until=0.5"], "baseline.narrow_until: full precision has no bits to change"),
        ([*TABLE, "method=fp32", "budget.latency_table=none.json"], "budget.latency_table: no file 'none.json'"),
    ],
)
def test_sections_that_do_not_go_together_are_reported(registry, overrides, problem):
    Path("t.json").write_text('{"layers": {"a": {"2": 0.1, "4": 0.2}}}')
    with pytest.raises(UserError) as caught:
        read_recipe("quickstart", overrides, registry=registry)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [*TABLE, "quantize.choices=[2, 4]"], ["quantize.choices=[4, 8]", "quantize.pin={conv1: 2}", "budget.average_bits=3"],
        ["train.epochs=0", "train.post_training=true"], ["method=fp32"],
    ],
)  # fmt: skip
def test_sections_that_go_together_are_valid(registry, overrides):
    Path("t.json").write_text('{"layers": {"a": {"2": 0.1, "4": 0.2}}}')
    assert read_recipe("quickstart", overrides, registry=registry)


def test_a_width_that_the_quantizer_lacks_is_reported(registry, monkeypatch):
    from fairquant_paper.uniform import Uniform

    monkeypatch.setattr(Uniform, "widths", (2, 4), raising=False)
    with pytest.raises(UserError, match=r"quantizer 'uniform' has no width 3. Set \[2, 4\]"):
        read_recipe("quickstart", ["method=fq-qat", "quantize.choices=[2, 3, 4]"], registry=registry)
