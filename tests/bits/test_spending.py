"""Bit operations counted by hand, and budgets of operations and of bytes that are never exceeded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Triples, problem_of
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.baq import Baq
from fairquant_paper.quantile import Quantile
from fairquant_paper.uniform import Uniform
from fairquant_rivals.ranked import FairGrape, FairPrune
from fairquant_rivals.uniform import UniformBits as UniformBits
from test_pipeline import write
from torch import nn
from torch.nn import functional as F

import fairquant
from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.costs import BitOperations, count_operations, within_size
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import Infeasible, UserError
from fairquant.roles import Allocation, GroupImportance


class Attention(nn.Module):
    """Patches, one linear layer on tokens, attention with 2 heads, a grouped convolution before."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
        self.qkv = nn.Linear(6, 18, bias=False)
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2)  # [B, 64, 6]
        q, k, v = self.qkv(tokens).reshape(len(tokens), -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(mixed.mean(1))


def test_operations_are_those_counted_by_hand():
    model = Attention()
    layers = find_layers(model, "channel")
    found = count_operations(model, layers, torch.zeros(1, 3, 16, 16))
    assert found.positions == {"stem": 64, "qkv": 64, "head": 1}
    assert found.other == 2 * 64 * 64 * 6  # q k' and its product with v, over both heads
    plan = plan_of(layers, torch.tensor([3] * 6 + [2] * 18 + [8] * 4))
    stem, qkv, head = 64 * 6 * 9 * 1 * 3, 64 * 18 * 6 * 2, 4 * 6 * 8
    assert found.bops(plan, {"qkv": 8}) == stem * 32 + qkv * 8 + head * 32 + found.other * 32 * 32
    assert found.full(plan) == (64 * 54 + 64 * 108 + 24 + found.other) * 32 * 32
    assert all(not parameter.grad for parameter in model.parameters())


def test_a_layer_that_is_kept_or_used_twice_counts_as_it_is_used():
    shared = nn.Linear(5, 5)
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), shared, nn.ReLU(), shared)
    found = count_operations(model, find_layers(model, "tensor", ("0",)), torch.zeros(1, 3, 4, 4))
    assert found.positions == {"3": 2}
    assert found.other == 15 * 16


def test_a_deit_has_the_operations_that_are_known_of_it():
    import timm

    model = timm.create_model("deit_tiny_patch16_224", num_classes=10)
    found = count_operations(model, find_layers(model, "channel"), torch.zeros(1, 3, 224, 224))
    assert found.other == 12 * 2 * 197 * 197 * 192
    block = 197 * 192 * 192 * 12
    assert (
        sum(found.positions[layer.name] * layer.weight.numel() for layer in find_layers(model, "channel"))
        == 12 * block + 196 * 768 * 192 + 192 * 10
    )


ALLOCATORS = [
    Knapsack(),
    Minimax(),
    Quantile(levels=(2, 4, 8), fractions=(0.3, 0.4, 0.3)),
    FairGrape(),
    FairPrune("a"),
    UniformBits(),
]


@pytest.mark.parametrize("allocator", ALLOCATORS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("fraction", [0.3, 0.55])
def test_no_allocator_exceeds_a_budget_of_operations(allocator, fraction):
    torch.manual_seed(3)
    model = Attention()
    layers = find_layers(model, "channel")
    operations = count_operations(model, layers, torch.zeros(1, 3, 16, 16))
    floor = operations.other * 32 * 32
    full = plan_of(layers, torch.full((28,), 8))
    limit = floor + fraction * (operations.bops(full, {}) - floor)
    cost_model = operations.cost_model(limit, {})
    scores = {layer.name: torch.rand(2, layer.units) for layer in layers}
    importance = GroupImportance(scores, ("a", "b"))
    budget = Budget(cost_model.average_bits(layers), cost_model)
    problem = problem_of(layers, importance, importance.table().mean(0), Uniform(), tuple(range(9)), budget)
    plan = plan_of(layers, allocator.allocate(problem).bits)
    assert operations.bops(plan, {}) <= limit
    if isinstance(allocator, Knapsack | Minimax):  # exact: nearly all of it is spent
        assert operations.bops(plan, {}) >= floor + 0.93 * (limit - floor)
    attachment = attach(layers, Baq(), plan, BitChoices(tuple(range(9))), Budget(cost_model.average_bits(layers), cost_model))
    with torch.no_grad():
        for quantizer in attachment.quantizers:
            quantizer.bit_logits.add_(torch.randn_like(quantizer.bit_logits) + 1)
    state = attachment.bit_state()
    assert state.budget == pytest.approx(cost_model.average_bits(layers))
    assert operations.bops(attachment.project_to_budget(), {}) <= limit


def test_a_budget_below_what_stays_in_float_says_so():
    model = Attention()
    operations = count_operations(model, find_layers(model, "channel"), torch.zeros(1, 3, 16, 16))
    with pytest.raises(UserError, match="stays in full precision"):
        operations.cost_model(1e6, {})
    layers = find_layers(model, "channel")
    table = GroupImportance({layer.name: torch.ones(1, layer.units) for layer in layers}, ("a",))
    cost_model = BitOperations(operations.positions, 10.0)
    problem = problem_of(layers, table, table.table()[0], Uniform(), (2, 4), Budget(1.0, cost_model))
    with pytest.raises(Infeasible):
        Knapsack().allocate(problem)


def test_within_size_takes_off_what_is_too_much_and_gives_up_with_the_reason():
    layers = find_layers(nn.Sequential(nn.Linear(100, 40)), "channel")

    def allocate(bits):
        plan = plan_of(layers, torch.full((40,), int(bits)))
        return Allocation(plan.bits["0"]), plan

    def file_bytes(plan):
        return plan.total_bits // 8 + 300

    _, plan, bits = within_size(1400, None, 1.0, allocate, file_bytes)
    assert plan.average == 2
    assert 2 <= bits < 3
    assert within_size(1400, 1.5, 1.0, allocate, file_bytes)[1].average == 1
    with pytest.raises(
        UserError, match=r"budget.size: 700 bytes cannot be met: with 1.00 bits per weight the file has 800"
    ):
        within_size(700, None, 1.0, allocate, file_bytes)


@pytest.mark.parametrize(("method", "limit"), [("fq-baq", "90kB"), ("adq-ptq", "55kB")])
def test_the_file_keeps_to_its_bytes_everything_counted(method, limit):
    recipe = write(
        method=method, budget={"average_bits": None, "size": limit}, model={"name": "test_resnet", "image_size": 32}
    )
    report = fairquant.run(recipe).report
    most = 1e3 * float(limit.removesuffix("kB"))
    assert 0.8 * most <= report["artifact"]["bytes"] <= most
    assert report["budget"]["size_bytes"] == most
    page = Path(next(Path("runs").rglob("report.html"))).read_text()
    assert f"{most / 1e3:.1f} kB in all" in page
    assert "billion bit operations an image" in page


def test_a_run_keeps_to_its_bit_operations_and_reports_them():
    report = fairquant.run(write(budget={"average_bits": None, "bops": "60M"})).report
    assert report["budget"] == {"average_bits": None, "bops": 60e6}
    assert 0.9 * 60e6 <= report["bits"]["bops"] <= 60e6
    assert report["bits"]["full_bops"] > 5 * 60e6


def test_quantize_in_python_takes_a_size():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3))
    data = Triples(40, 0)
    found = fairquant.quantize(
        model, data, data, method="fq-qat-ptq", overrides=["budget.average_bits=null", "budget.size=7.5kB", "tracking.mlflow=null"]
    )  # fmt: skip
    assert found.report["artifact"]["bytes"] <= 7500
