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
from fairquant.bits import attach, find_layers, make_problem, plan_of
from fairquant.bits.spending import latency_spending
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


def asked(seed, share):
    layers = find_layers(model(), "tensor")
    scores = {layer.name: torch.rand(2, 1, generator=torch.Generator().manual_seed(seed)) for layer in layers}
    importance = GroupImportance(scores, ("a", "b"))
    table = random_table(seed, layers)
    spending = latency_spending(table, 1.0, layers)
    least, most = (sum(spending.cost(layer, bits) for layer in layers) for bits in (2, 8))
    spending = replace(spending, limit=least + share * (most - least))
    problem = make_problem(
        layers, importance, importance.table().mean(0), Uniform(), CHOICES, spending.average_bits(layers), {}, None, spending
    )  # fmt: skip
    return layers, spending, replace(problem, probe=cases.problem(seed, len(layers), CHOICES, 4.0, 2).probe)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.0, 0.35, 0.7, 1.0])
def test_exact_plans_are_the_best_of_all_plans_by_the_table(seed, share):
    layers, spending, problem = asked(seed, share)
    groups, errors = problem.group_errors(), problem.weighted_errors()
    best, best_worst = float("inf"), float("inf")
    for plan in itertools.product(range(3), repeat=len(layers)):
        time = sum(spending.cost(layer, CHOICES[k]) for layer, k in zip(layers, plan, strict=True))
        if time <= spending.limit * (1 + 1e-12):
            place = torch.arange(len(layers)), torch.tensor(plan)
            best = min(best, float(errors[place].sum()))
            best_worst = min(best_worst, float(groups[:, place[0], place[1]].sum(1).max()))
    for allocator, value in ((Knapsack(), best), (Minimax(), best_worst)):
        found = allocator.allocate(problem)
        assert problem.fits(found.bits)
        assert found.value == pytest.approx(value, rel=2e-3)
        assert found.lower_bound <= value * (1 + 1e-9)


ALLOCATORS = [
    Knapsack(), Minimax(), Quantile(shares=(0.3, 0.4, 0.3)), FairGrape(), FairPrune("a", high=4), FairQuantize("a"),
    UniformBits(), Fmpq(), Impq(),
]  # fmt: skip


@pytest.mark.parametrize("allocator", ALLOCATORS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_no_allocator_exceeds_the_milliseconds(allocator, share):
    layers, spending, problem = asked(3, share)
    if isinstance(allocator, FairPrune):  # prunes: its low width is 0
        problem = make_problem(
            layers, GroupImportance({layer.name: torch.ones(2, 1) for layer in layers}, ("a", "b")),
            torch.ones(len(layers)), Uniform(), (0, *CHOICES), 8.0, {}, None, spending,
        )  # fmt: skip
    plan = plan_of(layers, allocator.allocate(problem).bits)
    assert spending.of(plan) <= spending.limit * (1 + 1e-12)


def test_learnt_bits_settle_within_the_milliseconds():
    layers, spending, problem = asked(1, 0.5)
    plan = plan_of(layers, Knapsack().allocate(problem).bits)
    attachment = attach(layers, Baq(), plan, CHOICES, spending.average_bits(layers, plan), {}, None, spending)
    assert attachment.bit_state().budget == pytest.approx(plan.average)
    with torch.no_grad():
        for quantizer in attachment.quantizers:
            quantizer.bit_logits.add_(3.0)
    settled = attachment.settle()
    assert spending.of(settled) <= spending.limit * (1 + 1e-12)
    assert settled.bits != plan.bits or settled.average >= plan.average


def test_a_width_costs_what_the_fastest_wider_one_does():
    layers = find_layers(nn.Sequential(nn.Linear(3, 3)), "tensor")
    spending = latency_spending({"0": {2: 0.5, 4: 0.3, 8: 0.4, 32: 0.1}}, 1.0, layers)
    assert [spending.cost(layers[0], bits) for bits in (0, 1, 2, 3, 4, 5, 8)] == [0.3] * 5 + [0.4] * 2
    problem = make_problem(
        layers, GroupImportance({"0": torch.ones(1, 1)}, ("a",)), torch.ones(1), Uniform(), (2, 4, 8), 8.0, {}, None,
        replace(spending, limit=0.3),
    )  # fmt: skip
    for allocator in (Knapsack(), Minimax()):  # 2 bits are no faster than 4
        assert allocator.allocate(problem).bits.tolist() == [4]
        with pytest.raises(Infeasible, match="is below what the cheapest plan costs, 0.3"):
            allocator.allocate(replace(problem, limit=0.2))
    with pytest.raises(UserError, match=r"no layer '0' in it.*--per-layer"):
        latency_spending({"fc": {8: 0.1}}, 1.0, layers)


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
    for overrides, words in [
        (["budget.average_bits=null", "budget.latency=3s"], ["must be a number with one of ms, us"]),
        (["budget.latency=3ms"], ["latency: a plan is held to one kind of cost"]),
        (latency, ["latency: needs latency_table"]),
        ([*latency, "budget.bops=3G"], ["Leave bops or latency away"]),
        ([*latency, "budget.latency_table=none.json"], ["cannot read 'none.json'", "needs units: tensor"]),
        ([*latency, "budget.latency_table=t.json", "quantize.units=tensor"], ["has times for up to 4 bits only"]),
    ]:
        with pytest.raises(UserError) as caught:
            read_recipe("quickstart", overrides, registry=registry)
        assert all(word in str(caught.value) for word in words), str(caught.value)


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

    from fairquant.artifact.layer_speed import _graph

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
    from fairquant.artifact.layer_speed import measure_layers

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
    from fairquant.artifact.layer_speed import settled

    draw = np.random.default_rng(0)
    one, other = (list(1 + 0.1 * draw.normal(size=99)) for _ in range(2))
    noise = settled({"int4": one, "int8": other, "float": [3.0] * 99})
    assert noise["int4"] == noise["int8"]
    fewer = [value - 0.2 for value in other]
    assert settled({"int4": fewer, "int8": other, "float": other})["int4"] == statistics.median(fewer)
