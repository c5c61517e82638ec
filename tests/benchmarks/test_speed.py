"""The figures to reach, as medians of ratios measured side by side: pytest -m benchmark -s tests/benchmarks

Each benchmark prints its ratio. Machines are noisy: pairs are measured in turn, and the median of the pairs' ratios counts.
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from fairquant_fair.fisher import BlockFisher, Fisher
from fairquant_paper.baq import Baq
from fairquant_paper.importance import Gradient, Grape
from fairquant_paper.uniform import Uniform
from fairquant_rivals.hawq import Hawq
from torch.nn import functional as F

from fairquant.bits import attach, find_layers
from fairquant.bits.knapsack import solve_knapsack
from fairquant.bits.minimax import solve_minimax
from fairquant.bits.problem import BitChoices, Budget, weight_errors
from fairquant.recipe.sections import TrainSettings
from fairquant.roles import Batch, BitPlan
from fairquant.roles.allocator import BudgetConstraint
from fairquant.training.optimizer import make_optimizer

pytestmark = pytest.mark.benchmark


def median_ratio(one: Callable[[], object], other: Callable[[], object], pairs: int = 7) -> float:
    """Median over pairs of time(one) / time(other), measured in turn after a warm-up of each."""
    one(), other()
    ratios = []
    for _ in range(pairs):
        start = time.perf_counter()
        one()
        middle = time.perf_counter()
        other()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return float(np.median(ratios))


MODELS = {
    "resnet18 96 px, batch 64": ("resnet18", 96, 64),
    "deit-tiny 224 px, batch 16": ("deit_tiny_patch16_224", 224, 16),
}


@pytest.mark.parametrize("groups", [2, 6])
@pytest.mark.parametrize("importance", [Fisher(), Gradient(), Grape()], ids=["fisher", "gradient", "grape"])
@pytest.mark.parametrize("shown", MODELS)
def test_importance(shown, importance, groups):
    name, size, count = MODELS[shown]
    model = timm.create_model(name, num_classes=8).eval()
    layers = find_layers(model, "channel")
    images, labels = torch.randn(count, 3, size, size), torch.randint(8, (count,))
    batch = Batch(images, labels, torch.arange(count) % groups)
    names = tuple(f"g{g}" for g in range(groups))

    def forward_backward():
        F.cross_entropy(model(images), labels).backward()
        model.zero_grad()

    ratio = median_ratio(lambda: importance.measure(model, [batch], layers, names), forward_backward)
    print(
        f"\nimportance {type(importance).__name__:9} {shown}, {groups} groups / forward+backward: {ratio:.2f} (reach 1.10)"
    )
    assert ratio < 2


@pytest.mark.parametrize("shown", MODELS)
def test_measured_errors(shown):
    """block-fisher's errors at nine widths, and hawq, in forward and backward passes."""
    name, size, count = MODELS[shown]
    model = timm.create_model(name, num_classes=8).eval()
    layers = find_layers(model, "channel")
    batch = Batch(torch.randn(count, 3, size, size), torch.randint(8, (count,)), torch.arange(count) % 2)
    errors = {layer.name: torch.stack([*weight_errors(layer, Uniform(), tuple(range(9)))]) for layer in layers}

    def forward_backward():
        F.cross_entropy(model(batch.images), batch.labels).backward()
        model.zero_grad()

    block = median_ratio(
        lambda: BlockFisher().group_errors(model, [batch], layers, ("a", "b"), errors), forward_backward, pairs=3
    )
    hawq = median_ratio(lambda: Hawq().measure(model, [batch], layers, ("a", "b")), forward_backward, pairs=3)
    print(f"\nblock-fisher {shown} / forward+backward: {block:.1f}; hawq: {hawq:.1f}")
    assert block < hawq


@pytest.mark.parametrize("shown", MODELS)
@pytest.mark.parametrize(
    ("quantizer", "reach"),
    [
        (Uniform(), {"r": 1.25, "d": 1.10}),
        (Baq("fractional"), {"r": 1.40, "d": 1.20}),
        (Baq("step"), {"r": 1.40, "d": 1.20}),
    ],
    ids=["uniform", "baq-fractional", "baq-step"],
)
def test_training_step(shown, quantizer, reach):
    name, size, count = MODELS[shown]
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=8).train()
    quantized = copy.deepcopy(plain)
    layers = find_layers(quantized, "channel")
    draw = torch.Generator().manual_seed(1)
    plan = BitPlan(
        {layer.name: torch.randint(2, 7, (layer.units,), generator=draw) for layer in layers},
        {layer.name: layer.unit_size for layer in layers},
    )
    attachment = attach(layers, quantizer, plan, BitChoices(tuple(range(9))), Budget(4.0))
    images, labels = torch.randn(count, 3, size, size), torch.randint(8, (count,))
    settings = TrainSettings()

    def stepper(model, bits):
        optimizer = make_optimizer(model, settings)

        def step():
            loss = F.cross_entropy(model(images), labels)
            if bits is not None and bits.learns_bits:
                loss = loss + (bits.bit_state().average - 4.0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    ratio = median_ratio(stepper(quantized, attachment), stepper(plain, None))
    print(f"\nstep {quantizer} {shown} / full precision: {ratio:.2f} (reach {reach[name[0]]:.2f})")
    assert ratio < 2.5


@pytest.mark.parametrize(("groups", "kind"), [(1, "knapsack"), (2, "minimax"), (6, "minimax")])
def test_allocation(groups, kind):
    draw = np.random.default_rng(0)
    units, widths = 30_000, np.array([0, 1, 2, 3, 4, 6, 8])
    scale = draw.lognormal(0, 2, (1, units, 1)) * draw.lognormal(0, 0.5, (groups, units, 1))
    errors = scale * 4.0**-widths * np.sort(draw.uniform(0.5, 2, (1, units, 7)), axis=2)[:, :, ::-1]
    costs = draw.integers(64, 4608, units)[:, None] * widths.astype(float)
    allowed, capacity = np.ones(costs.shape, bool), costs[:, -1].sum() * 3 / 8
    solve = (
        (lambda: solve_knapsack(errors[0], BudgetConstraint(costs, allowed, capacity)))
        if groups == 1
        else (lambda: solve_minimax(errors, BudgetConstraint(costs, allowed, capacity)))
    )
    times = []
    for _ in range(7):
        start = time.perf_counter()
        solution = solve()
        times.append(time.perf_counter() - start)
    print(
        f"\n{kind}, {units} units x 7 choices, {groups} group(s): {np.median(times):.3f} s (reach 0.1), gap {100 * solution.gap:.5f} % (reach 0.1)"
    )
    assert solution.gap < 1e-3
    assert costs[np.arange(units), solution.choice].sum() <= capacity


def test_audit():
    from fairquant.audit.acceptance import acceptance
    from fairquant.audit.cells import cells_of
    from fairquant.audit.evaluate import evaluate
    from fairquant.recipe.accept import read_accept
    from fairquant.recipe.schema import DEFAULT_METRICS, Component
    from fairquant.registry import discover
    from fairquant.roles import Predictions

    registry = discover().registry
    metrics = [
        Component(m["name"], registry.load("metric", m["name"])(**{k: v for k, v in m.items() if k != "name"}))
        for m in DEFAULT_METRICS
    ]
    draw = np.random.default_rng(0)
    predictions = Predictions(
        logits=draw.normal(size=(10_000, 114)).astype(np.float32), labels=draw.integers(0, 114, 10_000), groups=draw.integers(0, 6, 10_000),
        group_names=tuple(f"g{g}" for g in range(6)), class_names=tuple(f"c{c}" for c in range(114)),
    )  # fmt: skip
    start = time.perf_counter()
    values = evaluate(predictions, metrics)
    print(
        f"\naudit, 10,000 images, 114 classes x 6 groups, 1,000 replicates: {time.perf_counter() - start:.2f} s (reach 1)"
    )
    assert set(values) == {component.label for component in metrics}
    changed = draw.random(10_000) < 0.05
    before = Predictions(
        logits=np.where(changed[:, None], predictions.logits[:, ::-1], predictions.logits), labels=predictions.labels,
        groups=predictions.groups, group_names=predictions.group_names, class_names=predictions.class_names,
    )  # fmt: skip
    start = time.perf_counter()
    cells = cells_of(predictions, before)
    middle = time.perf_counter()
    answer = acceptance(predictions, before, read_accept(None, False, registry, []))
    end = time.perf_counter()
    print(
        f"its {len(cells.cells)} cells: {middle - start:.2f} s; the default limits ({len(answer['limits'])}): {end - middle:.2f} s"
    )
    assert len(cells.cells) == 3 * 7 * 114
    assert len(answer["limits"]) == 7 * 114 + 7


def test_audit_beside_fairlearn():
    """Accuracy and recall by group with bootstrap intervals: seconds per replicate, both on the same 10,000 images."""
    from fairlearn.metrics import MetricFrame
    from fairquant_fair.accuracy import AccuracyGap, BalancedAccuracy
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    from fairquant.audit.evaluate import evaluate
    from fairquant.recipe.schema import Component
    from fairquant.roles import Predictions

    draw = np.random.default_rng(0)
    labels, groups = draw.integers(0, 8, 10_000), draw.integers(0, 6, 10_000)
    logits = draw.normal(size=(10_000, 8)).astype(np.float32) + 2 * np.eye(8, dtype=np.float32)[labels]
    names = tuple(f"g{g}" for g in range(6)), tuple(f"c{c}" for c in range(8))
    predictions = Predictions(logits=logits, labels=labels, groups=groups, group_names=names[0], class_names=names[1])
    metrics = [Component("accuracy-gap", AccuracyGap()), Component("balanced-accuracy", BalancedAccuracy())]
    start = time.perf_counter()
    evaluate(predictions, metrics, replicates=1_000)
    ours = (time.perf_counter() - start) / 1_000
    start = time.perf_counter()
    MetricFrame(
        metrics={"accuracy": accuracy_score, "balanced": balanced_accuracy_score}, y_true=labels, sensitive_features=groups,
        y_pred=predictions.predicted, n_boot=20, ci_quantiles=[0.025, 0.975], random_state=0,
    )  # fmt: skip
    theirs = (time.perf_counter() - start) / 20
    print(
        f"\naudit of two metrics: {1e3 * ours:.2f} ms a replicate; fairlearn's MetricFrame {1e3 * theirs:.1f} ms: {theirs / ours:.0f} times"
    )
    assert ours < theirs


def test_two_hundred_plugins(tmp_path):
    """`fairquant --help` and `fairquant plugins` with 200 more distributions, side by side with none more."""
    import subprocess
    import sys

    for number in range(200):
        (tmp_path / f"plugin_{number}.py").write_text(
            "from fairquant.registry import hookimpl\n@hookimpl\ndef fairquant_register(registry):\n"
            f"    registry.add('metric', 'metric-{number}', 'nowhere:Metric', 'one of many')\n"
        )
        facts = tmp_path / f"plugin_{number}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{number}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[fairquant]\nplugin-{number} = plugin_{number}\n")

    def seconds(path: str, *arguments: str) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            command = [sys.executable, "-m", "fairquant", *arguments]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path})
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    for arguments in (["--help"], ["plugins"]):
        without, with_all = seconds("", *arguments), seconds(str(tmp_path), *arguments)
        print(f"\nfairquant {arguments[0]}: {without:.2f} s, with 200 plugins {with_all:.2f} s (reach +0.2 for --help)")
        assert arguments != ["--help"] or with_all - without < 0.2
