"""Budgets of bit operations, bytes and milliseconds: counted by hand, never exceeded."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.baq import Baq
from fairquant_paper.quantile import Quantile
from fairquant_paper.uniform import Uniform
from fairquant_rivals.probing import Fmpq, Impq
from fairquant_rivals.ranked import FairGrape, FairPrune, FairQuantize
from fairquant_rivals.uniform import UniformBits as UniformBits
from helpers.models import problem_of
from torch import nn
from torch.nn import functional as F

from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.costs import BitOperations, count_operations, latency_cost_model, within_size
from fairquant.bits.problem import BitChoices, Budget
from fairquant.errors import Infeasible, UserError
from fairquant.roles import Allocation, GroupImportance
from fairquant.testing import cases


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
    operations = count_operations(model, layers, torch.zeros(1, 3, 16, 16))
    assert operations.positions == {"stem": 64, "qkv": 64, "head": 1}
    assert operations.other == 2 * 64 * 64 * 6  # q k' and its product with v, over both heads
    plan = plan_of(layers, torch.tensor([3] * 6 + [2] * 18 + [8] * 4))
    stem, qkv, head = 64 * 6 * 9 * 1 * 3, 64 * 18 * 6 * 2, 4 * 6 * 8
    assert operations.bops(plan, {"qkv": 8}) == stem * 32 + qkv * 8 + head * 32 + operations.other * 32 * 32
    assert operations.full(plan) == (64 * 54 + 64 * 108 + 24 + operations.other) * 32 * 32
    assert all(not parameter.grad for parameter in model.parameters())


def test_a_layer_in_full_precision_or_used_twice_counts_as_it_is_used():
    shared = nn.Linear(5, 5)
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), shared, nn.ReLU(), shared)
    operations = count_operations(model, find_layers(model, "tensor", ("0",)), torch.zeros(1, 3, 4, 4))
    assert operations.positions == {"3": 2}
    assert operations.other == 15 * 16


def test_a_deit_has_the_operations_that_are_known_of_it():
    import timm

    model = timm.create_model("deit_tiny_patch16_224", num_classes=10)
    operations = count_operations(model, find_layers(model, "channel"), torch.zeros(1, 3, 224, 224))
    assert operations.other == 12 * 2 * 197 * 197 * 192
    block = 197 * 192 * 192 * 12
    assert (
        sum(operations.positions[layer.name] * layer.weight.numel() for layer in find_layers(model, "channel"))
        == 12 * block + 196 * 768 * 192 + 192 * 10
    )


BOPS_ALLOCATORS = [
    Knapsack(),
    Minimax(),
    Quantile(levels=(2, 4, 8), fractions=(0.3, 0.4, 0.3)),
    FairGrape(),
    FairPrune("a"),
    UniformBits(),
]


@pytest.mark.parametrize("allocator", BOPS_ALLOCATORS, ids=lambda a: type(a).__name__)
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
    attachment = attach(
        layers, Baq(), plan, BitChoices(tuple(range(9))), Budget(cost_model.average_bits(layers), cost_model)
    )
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


CHOICES = (2, 4, 8)


def model():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(6 + n, 7 + n) for n in range(6)))


def random_table(seed, layers):
    """Times that need not rise with the bits, and that are equal for some."""
    draw = np.random.default_rng(seed)
    return {layer.name: {bits: float(draw.choice([0.1, 0.2, 0.3, 0.5, 0.8])) for bits in CHOICES} for layer in layers}


def latency_problem(seed, fraction):
    layers = find_layers(model(), "tensor")
    scores = {layer.name: torch.rand(2, 1, generator=torch.Generator().manual_seed(seed)) for layer in layers}
    importance = GroupImportance(scores, ("a", "b"))
    table = random_table(seed, layers)
    cost_model = latency_cost_model(table, 1.0, layers)
    least, most = (sum(cost_model.unit_cost(layer, bits) for layer in layers) for bits in (2, 8))
    cost_model = replace(cost_model, limit=least + fraction * (most - least))
    budget = Budget(cost_model.average_bits(layers), cost_model)
    problem = problem_of(layers, importance, importance.table().mean(0), Uniform(), CHOICES, budget)
    return layers, cost_model, replace(problem, probe=cases.problem(seed, len(layers), CHOICES, 4.0, 2).probe)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fraction", [0.0, 0.35, 0.7, 1.0])
def test_exact_plans_are_the_best_of_all_plans_by_the_table(seed, fraction):
    layers, cost_model, problem = latency_problem(seed, fraction)
    groups, errors = problem.group_errors(), problem.weighted_errors()
    best, best_worst = float("inf"), float("inf")
    for plan in itertools.product(range(3), repeat=len(layers)):
        time = sum(cost_model.unit_cost(layer, CHOICES[k]) for layer, k in zip(layers, plan, strict=True))
        if time <= cost_model.limit * (1 + 1e-12):
            place = torch.arange(len(layers)), torch.tensor(plan)
            best = min(best, float(errors[place].sum()))
            best_worst = min(best_worst, float(groups[:, place[0], place[1]].sum(1).max()))
    for allocator, value in ((Knapsack(), best), (Minimax(), best_worst)):
        allocation = allocator.allocate(problem)
        assert problem.fits(allocation.bits)
        assert allocation.value == pytest.approx(value, rel=2e-3)
        assert allocation.lower_bound <= value * (1 + 1e-9)


LATENCY_ALLOCATORS = [
    Knapsack(), Minimax(), Quantile(fractions=(0.3, 0.4, 0.3)), FairGrape(), FairPrune("a", high=4), FairQuantize("a"),
    UniformBits(), Fmpq(), Impq(),
]  # fmt: skip


@pytest.mark.parametrize("allocator", LATENCY_ALLOCATORS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("fraction", [0.4, 0.8])
def test_no_allocator_exceeds_the_milliseconds(allocator, fraction):
    layers, cost_model, problem = latency_problem(3, fraction)
    if isinstance(allocator, FairPrune):  # prunes: its low width is 0
        importance = GroupImportance({layer.name: torch.ones(2, 1) for layer in layers}, ("a", "b"))
        widths, budget = (0, *CHOICES), Budget(8.0, cost_model)
        problem = problem_of(layers, importance, torch.ones(len(layers)), Uniform(), widths, budget)
    plan = plan_of(layers, allocator.allocate(problem).bits)
    assert cost_model.of(plan) <= cost_model.limit * (1 + 1e-12)


def test_learned_bits_are_projected_onto_the_milliseconds():
    layers, cost_model, problem = latency_problem(1, 0.5)
    plan = plan_of(layers, Knapsack().allocate(problem).bits)
    attachment = attach(
        layers, Baq(), plan, BitChoices(CHOICES), Budget(cost_model.average_bits(layers, plan), cost_model)
    )
    assert attachment.bit_state().budget == pytest.approx(plan.average)
    with torch.no_grad():
        for quantizer in attachment.quantizers:
            quantizer.bit_logits.add_(3.0)
    projected = attachment.project_to_budget()
    assert cost_model.of(projected) <= cost_model.limit * (1 + 1e-12)
    assert projected.bits != plan.bits or projected.average >= plan.average


def test_a_width_costs_what_the_fastest_wider_one_does():
    layers = find_layers(nn.Sequential(nn.Linear(3, 3)), "tensor")
    cost_model = latency_cost_model({"0": {2: 0.5, 4: 0.3, 8: 0.4, 32: 0.1}}, 1.0, layers)
    assert [cost_model.unit_cost(layers[0], bits) for bits in (0, 1, 2, 3, 4, 5, 8)] == [0.3] * 5 + [0.4] * 2
    importance, budget = GroupImportance({"0": torch.ones(1, 1)}, ("a",)), Budget(8.0, replace(cost_model, limit=0.3))
    problem = problem_of(layers, importance, torch.ones(1), Uniform(), (2, 4, 8), budget)
    for allocator in (Knapsack(), Minimax()):  # 2 bits are no faster than 4
        assert allocator.allocate(problem).bits.tolist() == [4]
        with pytest.raises(Infeasible, match="is below what the cheapest plan costs, 0.3"):
            allocator.allocate(replace(problem, limit=0.2))
    with pytest.raises(UserError, match=r"no layer '0' in it.*--per-layer"):
        latency_cost_model({"fc": {8: 0.1}}, 1.0, layers)
