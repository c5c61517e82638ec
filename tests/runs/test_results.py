"""What a run has measured, in bits, bytes, operations and milliseconds."""

from __future__ import annotations

import torch
from torch import nn

from fairquant.bits.costs import Latency, Operations
from fairquant.bits.packing import packed_bytes
from fairquant.roles import Allocation, BitPlan, QuantizedWeight
from fairquant.runs.results import Quantized, Results

PLAN = BitPlan({"a": torch.tensor([2, 4])}, {"a": 10})


def quantized(cost_model: object = None) -> Quantized:
    bits = PLAN.bits["a"]
    weight = QuantizedWeight(codes=torch.zeros(2, 10, dtype=torch.int8), bits=bits, scale=torch.ones(2), shape=(2, 10))
    return Quantized(
        layers=(), plan=PLAN, start=PLAN, weights={"a": weight}, allocation=Allocation(bits), input_bits={"a": 8},
        operations=Operations({"a": 5}, other=7), cost_model=cost_model,
    )  # fmt: skip


def results(network: nn.Module, how: Quantized | None) -> Results:
    return Results(
        splits=None, network=network, validation=None, test=None, audit=None, decisions=None, acceptance=None, artifact=None,
        quantized=how,
    )  # fmt: skip


def test_operations_are_counted_as_quantized_and_in_full_precision():
    assert quantized().bops == ((2 + 4) * 10 * 5 * 8 + 7 * 32 * 32, (2 * 10 * 5 + 7) * 32 * 32)


def test_milliseconds_are_known_only_where_the_budget_is_of_them():
    assert quantized().milliseconds is None
    one_unit = BitPlan({"a": torch.tensor([4])}, {"a": 20})
    timed = Quantized(**{**vars(quantized(Latency({"a": [0.1 * bits for bits in range(9)]}, 1.0))), "plan": one_unit})
    assert timed.milliseconds == 0.4


def test_bytes_are_those_of_the_packed_codes_and_of_the_same_model_in_float32():
    shared = nn.Linear(3, 3, bias=False)
    network = nn.Sequential(shared, nn.BatchNorm1d(3), shared)
    small = results(network, quantized())
    assert small.weight_bytes == packed_bytes(PLAN.bits["a"], 10)
    assert small.average_bits == 3.0
    assert small.full_bytes == 4 * 9 + 4 * 3 * 4 + 8  # the shared weight once; four vectors and a counter of batch norm


def test_in_full_precision_every_weight_has_32_bits():
    full = results(nn.Linear(3, 4), None)
    assert (full.average_bits, full.weight_bytes) == (32.0, 4 * 16)
