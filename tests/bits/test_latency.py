"""A budget of milliseconds by a table: exact against every plan there is, kept by all allocators, measured layer by layer."""

from __future__ import annotations

import itertools
import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import problem_of
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.baq import Baq
from fairquant_paper.quantile import Quantile
from fairquant_paper.uniform import Uniform
from fairquant_rivals.probing import Fmpq, Impq
from fairquant_rivals.ranked import FairGrape, FairPrune, FairQuantize
from fairquant_rivals.uniform import UniformBits
from test_pipeline import write
from torch import nn
from typer.testing import CliRunner

import fairquant
from fairquant.bits import attach, find_layers, plan_of
from fairquant.bits.costs import latency_cost_model
from fairquant.bits.problem import BitChoices, Budget
from fairquant.cli import app
from fairquant.errors import Infeasible, UserError
from fairquant.recipe import read_recipe
from fairquant.recipe.latency import read_table, widest
from fairquant.roles import GroupImportance
from fairquant.testing import cases

CHOICES = (2, 4, 8)


def model():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(6 + n, 7 + n) for n in range(6)))


def random_table(seed, layers):
    """Times that need not rise with the bits, and that are alike for some."""
    draw = np.random.default_rng(seed)
    return {layer.name: {bits: float(draw.choice([0.1, 0.2, 0.3, 0.5, 0.8])) for bits in CHOICES} for layer in layers}


def asked(seed, fraction):
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
    layers, cost_model, problem = asked(seed, fraction)
    groups, errors = problem.group_errors(), problem.weighted_errors()
    best, best_worst = float("inf"), float("inf")
    for plan in itertools.product(range(3), repeat=len(layers)):
        time = sum(cost_model.unit_cost(layer, CHOICES[k]) for layer, k in zip(layers, plan, strict=True))
        if time <= cost_model.limit * (1 + 1e-12):
            place = torch.arange(len(layers)), torch.tensor(plan)
            best = min(best, float(errors[place].sum()))
            best_worst = min(best_worst, float(groups[:, place[0], place[1]].sum(1).max()))
    for allocator, value in ((Knapsack(), best), (Minimax(), best_worst)):
        found = allocator.allocate(problem)
        assert problem.fits(found.bits)
        assert found.value == pytest.approx(value, rel=2e-3)
        assert found.lower_bound <= value * (1 + 1e-9)


ALLOCATORS = [
    Knapsack(), Minimax(), Quantile(fractions=(0.3, 0.4, 0.3)), FairGrape(), FairPrune("a", high=4), FairQuantize("a"),
    UniformBits(), Fmpq(), Impq(),
]  # fmt: skip


@pytest.mark.parametrize("allocator", ALLOCATORS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("fraction", [0.4, 0.8])
def test_no_allocator_exceeds_the_milliseconds(allocator, fraction):
    layers, cost_model, problem = asked(3, fraction)
    if isinstance(allocator, FairPrune):  # prunes: its low width is 0
        importance = GroupImportance({layer.name: torch.ones(2, 1) for layer in layers}, ("a", "b"))
        widths, budget = (0, *CHOICES), Budget(8.0, cost_model)
        problem = problem_of(layers, importance, torch.ones(len(layers)), Uniform(), widths, budget)
    plan = plan_of(layers, allocator.allocate(problem).bits)
    assert cost_model.of(plan) <= cost_model.limit * (1 + 1e-12)


def test_learnt_bits_settle_within_the_milliseconds():
    layers, cost_model, problem = asked(1, 0.5)
    plan = plan_of(layers, Knapsack().allocate(problem).bits)
    attachment = attach(layers, Baq(), plan, BitChoices(CHOICES), Budget(cost_model.average_bits(layers, plan), cost_model))
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "t.json:1: not JSON"),
        ("[]", 'expected {"layers"'),
        ('{"layers": {"a": 3}}', "layers.a: expected"),
        ('{"layers": {"a": {"eight": 3}}}', "layers.a: 'eight' is not a number of bits"),
        ('{"layers": {"a": {"8": -3}}}', "layers.a.8: must be milliseconds, 0 or more, got -3"),
        ('{"layers": {"a": {"8": true}}}', "layers.a.8: must be milliseconds, 0 or more, got True"),
    ],
)
def test_a_bad_table_is_told(tmp_path, monkeypatch, text, problem):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_table("t.json")
    assert problem in str(caught.value)
    with pytest.raises(UserError, match="cannot read 'none.json'"):
        read_table("none.json")


def test_the_recipe_says_what_a_latency_budget_needs(tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text('{"layers": {"a": {"4": 0.1}}}')
    assert widest(read_table("t.json")) == 4
    latency = ["budget.average_bits=null", "budget.latency=3ms"]
    for overrides, message in [
        (["budget.average_bits=null", "budget.latency=3s"], ["must be a number with one of ms, us"]),
        (["budget.latency=3ms"], ["latency: a plan is held to one kind of cost"]),
        (latency, ["latency: needs latency_table"]),
        ([*latency, "budget.bops=3G"], ["Leave bops or latency away"]),
        ([*latency, "budget.latency_table=none.json"], ["cannot read 'none.json'", "needs units: tensor"]),
        ([*latency, "budget.latency_table=t.json", "quantize.units=tensor"], ["has times for up to 4 bits only"]),
    ]:
        with pytest.raises(UserError) as caught:
            read_recipe("quickstart", overrides, registry=registry)
        assert all(word in str(caught.value) for word in message), str(caught.value)


def test_from_bench_to_a_run_within_its_milliseconds(registry):
    pytest.importorskip("onnx")
    first = fairquant.run(write(method="uniform-4-ptq", budget={"average_bits": 4}))
    file = first.folder / "model.safetensors"
    found = CliRunner().invoke(app, ["bench", str(file), "--per-layer", "--seconds", "0.2", "--out", "table.json"])
    assert found.exit_code == 0, found.output
    table = read_table("table.json")
    assert set(table) == {layer.name for layer in find_layers(fairquant.load(file), "tensor")}
    assert all(set(times) == {4, 8, 32} for times in table.values())
    # a machine with kernels of 2 and 4 bits: its table is written by hand
    made = {name: {"2": 0.25, "4": 0.5, "8": 1.0} for name in table}
    Path("npu.json").write_text(json.dumps({"layers": made}))
    limit = 0.55 * len(table)
    options = {"quantize": {"units": "tensor", "choices": [2, 4, 8]}}
    budget = {"average_bits": None, "latency": f"{limit:.3f}ms", "latency_table": "npu.json"}
    for method in ("fq-qat", "fq-baq"):
        run = fairquant.run(write(method=method, budget=budget, **options))
        report = run.report
        assert 0.8 * limit <= report["bits"]["latency_ms"] <= limit
        assert report["budget"]["latency_ms"] == pytest.approx(limit, abs=1e-3)
        assert "ms in the quantized layers" in (run.folder / "report.html").read_text()
    before = read_recipe(write(budget=budget, **options), registry=registry).digest()
    made[next(iter(made))]["2"] = 0.2
    Path("npu.json").write_text(json.dumps({"layers": made}))
    assert (
        read_recipe(write(budget=budget, **options), registry=registry).digest() != before
    )  # its numbers, not its name


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "linear", "tokens"])
def test_a_layer_timed_is_the_layer_in_integer_kernels(kind, tmp_path):
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    from fairquant.export.layer_speed import _graph

    torch.manual_seed(1)
    module, shape = {
        "convolution": (nn.Conv2d(16, 32, 3, stride=2, padding=1), (1, 16, 9, 9)),
        "depthwise": (nn.Conv2d(16, 16, 3, groups=16, bias=False, padding="same"), (1, 16, 9, 9)),
        "linear": (nn.Linear(32, 24), (1, 32)),
        "tokens": (nn.Linear(32, 24), (1, 5, 32)),
    }[kind]
    images = torch.rand(shape) * 2 - 1
    with torch.no_grad():
        right = module(images).numpy()
    for form, near in (("float", 1e-5), ("int8", 0.08), ("int4", 0.35)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{form}.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            _graph(module, shape, form).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        given = images.numpy() if kind != "tokens" else images.numpy()[0]
        (answer,) = session.run(None, {"x": given})
        assert np.abs(answer.reshape(right.shape) - right).max() < near, form
        kernels = {node.op_type for node in onnx.load(tmp_path / f"{form}.onnx").graph.node}
        assert form == "float" or kernels & {"QLinearConv", "QGemm"}, kernels


def test_a_layer_called_twice_takes_twice_and_one_that_is_not_called_takes_no_time():
    pytest.importorskip("onnx")
    from fairquant.export.layer_speed import measure_layers

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.twice, self.never = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, images):
            return self.once(self.twice(self.twice(images)))

    model = Odd()
    found = {
        each.name: each.at(8)
        for each in measure_layers(model, find_layers(model, "tensor"), torch.zeros(1, 3, 96, 96), 0.2, 1)
    }
    assert 1.3 < found["twice"] / found["once"] < 3.5
    assert found["never"] == 0


def test_noise_makes_no_width_faster():
    from fairquant.export.layer_speed import paired_medians

    draw = np.random.default_rng(0)
    one, other = (list(1 + 0.1 * draw.normal(size=99)) for _ in range(2))
    noise = paired_medians({"int4": one, "int8": other, "float": [3.0] * 99})
    assert noise["int4"] == noise["int8"]
    fewer = [value - 0.2 for value in other]
    assert paired_medians({"int4": fewer, "int8": other, "float": other})["int4"] == statistics.median(fewer)
