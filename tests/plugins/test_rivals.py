"""The rivals against cases done by hand or by exhaustion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from fairquant_fair.runner import Runner
from fairquant_paper.uniform import Uniform
from fairquant_rivals.hawq import Hawq
from fairquant_rivals.probing import Fmpq, Impq, quadratic, solve_quadratic
from fairquant_rivals.ranked import FairGrape, FairPrune, FairQuantize, pick_order
from torch import nn
from torch.nn import functional as F

from fairquant.bits import find_layers
from fairquant.bits.probe import CachedProbe, LossProbe
from fairquant.errors import Infeasible, UserError
from fairquant.roles import AllocationProblem, Batch


def problem(average=3.0, layers=6, units=5, seed=0, choices=(0, 1, 2, 3, 4, 6, 8), probe=None) -> AllocationProblem:
    draw = torch.Generator().manual_seed(seed)
    count = layers * units
    groups = torch.rand(2, count, generator=draw, dtype=torch.float64) + 0.01
    sizes = torch.randint(4, 40, (count,), generator=draw)
    energy = torch.rand(count, generator=draw, dtype=torch.float64) * sizes
    errors = energy[:, None] * torch.tensor([4.0**-b for b in choices], dtype=torch.float64)
    allowed = torch.ones(count, len(choices), dtype=torch.bool)
    allowed[0] = torch.tensor([b == 8 for b in choices])
    number = torch.arange(layers).repeat_interleave(units)
    return AllocationProblem(
        scores=groups.max(0).values,
        group_scores=groups,
        sizes=sizes,
        errors=errors,
        allowed=allowed,
        choices=choices,
        average_bits=average,
        layers=number,
        group_names=("dark", "light"),
        probe=probe,
    )


class Additive:
    """Group losses that grow with each layer's mean width missing to 8, plus an interaction of layers 1 and 2."""

    def __init__(self, weights: list[float], together: float = 0.0) -> None:
        self.weights, self.together, self.layers = weights, together, None

    def __call__(self, bits: torch.Tensor) -> torch.Tensor:
        assert self.layers is not None
        lost = [float(4.0 ** -bits[self.layers == n].clamp(min=0).double().mean()) if (bits[self.layers == n] >= 0).any()
                else 0.0 for n in range(len(self.weights))]  # fmt: skip
        loss = 1 + sum(w * x for w, x in zip(self.weights, lost, strict=True)) + self.together * lost[1] * lost[2]
        return torch.tensor([loss, 1.2 * loss])


def probed(weights, together=0.0, **more) -> AllocationProblem:
    probe = Additive(weights, together)
    made = problem(layers=len(weights), probe=probe, **more)
    probe.layers = made.layers
    return made


ALL = [
    FairQuantize("dark"), FairQuantize("light", beta=0.9, low=3, high=4), FairPrune("dark"), FairGrape(), Fmpq(),
    Fmpq("worst-group"), Impq(permutations=3), Impq(permutations=3, loss="worst-group"),
]  # fmt: skip


@pytest.mark.parametrize("average", [2.5, 3.0, 3.4, 4.0, 6.0])
@pytest.mark.parametrize("allocator", ALL, ids=str)
def test_within_the_budget_with_allowed_bits_and_pins_kept(allocator, average):
    for seed in range(3):
        made = probed([1.0, 0.1, 0.5, 0.2, 0.05, 2.0], average=average, seed=seed)
        try:
            bits = allocator.allocate(made).bits
        except Infeasible:
            assert getattr(allocator, "low", 0) == 3  # 3 bits everywhere and a pinned unit do not fit into 3
            assert average <= 3
            continue
        assert int(bits[0]) == 8
        place = torch.tensor([made.choices.index(int(b)) for b in bits])
        assert made.allowed[torch.arange(len(bits)), place].all()
        assert float((bits * made.sizes).sum()) <= made.capacity * (1 + 1e-12)


def test_fairquantize_lowers_what_serves_the_unprivileged_least():
    """Scores by hand: (H_dark - H_light / 2) * error at 2 bits; the ranks are not the argsort."""
    groups = torch.tensor([[1.0, 4.0, 2.0, 3.0], [1.0, 6.0, 0.0, 1.0]], dtype=torch.float64)
    made = AllocationProblem(
        scores=groups[0], group_scores=groups, sizes=torch.full((4,), 10), errors=torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64),
        allowed=torch.ones(4, 2, dtype=torch.bool), choices=(2, 8), average_bits=5.0, group_names=("dark", "light"),
    )  # fmt: skip
    assert FairQuantize("dark").allocate(made).bits.tolist() == [2, 2, 8, 8]  # scores .5, 1, 2, 2.5
    assert FairQuantize("light", beta=1).allocate(made).bits.tolist() == [8, 8, 2, 2]  # 0, 2, -2, -2
    with pytest.raises(UserError, match="no group is called 'drak'. Did you mean 'dark'"):
        FairQuantize("drak").allocate(made)


def test_fairprune_prunes_and_its_own_default_width_follows_the_budget():
    bits = FairPrune("dark").allocate(problem(average=3.0)).bits
    assert set(bits.tolist()) == {0, 4, 8}  # 8: the pinned unit
    assert (bits == 0).any()


def test_fairgrape_lets_the_group_with_the_largest_deficit_pick():
    importance = np.array([[8.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 7.0]])  # both groups have half of all importance
    # group 0 takes unit 0 and is over its share; group 1 takes unit 3 (7 of 15) and is still behind: unit 2; then 1
    assert pick_order(importance) == [0, 3, 2, 1]


def test_fmpq_takes_the_strictest_threshold_that_fits():
    made = probed([5.0, 0.001, 0.001, 0.001, 0.001, 0.001], average=3.0)
    bits = Fmpq().allocate(made).bits
    first, others = bits[made.layers == 0][1:].float().mean(), bits[made.layers != 0].float().mean()
    assert first > others
    exhaustive = []
    for widths in itertools.product(made.choices, repeat=2):  # no single threshold does better: layers 1..5 are alike
        plan = torch.where(made.layers == 0, widths[0], widths[1])
        plan[0] = 8
        if float((plan * made.sizes).sum()) <= made.capacity:
            exhaustive.append(float(made.probe(plan)[0]))
    assert float(made.probe(bits)[0]) <= np.quantile(exhaustive, 0.2)


@pytest.mark.parametrize("seed", range(6))
def test_the_quadratic_programme_equals_exhaustive_search(seed):
    draw = np.random.default_rng(seed)
    a, k = quadratic(draw.normal(size=(12, 8)) + np.arange(8) / 4, 0.5)
    cost = draw.uniform(1, 5, 8)
    spare = cost.sum() * draw.uniform(0.2, 0.8)
    solution = solve_quadratic(a, k, cost, spare).astype(float)
    plans = (np.array(q, float) for q in itertools.product([0, 1], repeat=8))
    best = min(a @ q + q @ k @ q for q in plans if cost @ (1 - q) <= spare + 1e-9)
    assert cost @ (1 - solution) <= spare + 1e-6
    assert a @ solution + solution @ k @ solution == pytest.approx(best, abs=1e-6)


def test_impq_keeps_the_layer_that_costs_most_when_it_is_lowered():
    made = probed([50.0, 0.1, 0.1, 0.1, 0.1, 0.1], average=3.0)
    bits = Impq(permutations=4).allocate(made).bits
    assert set(bits[made.layers == 0][1:].tolist()) == {4}


def test_allocators_that_measure_say_so_where_there_is_nothing_to_measure_on():
    with pytest.raises(UserError, match="allocator 'impq' has to measure losses"):
        Impq().allocate(problem())


def data(count=12, seed=0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(count, 3, 8, 8, generator=draw, dtype=torch.float64),
        torch.randint(3, (count,), generator=draw),
        torch.randint(2, (count,), generator=draw),
    )


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(12, 3, bias=False), nn.Linear(3, 3)

    def forward(self, images):
        return self.two(torch.tanh(self.one(images.flatten(1)[:, :12])))


def test_hawq_agrees_with_the_exact_diagonal_of_the_hessian():
    model, batch = Tiny().double(), data(30)
    layers = find_layers(model, "channel")
    diagonals = Hawq(samples=3_000).diagonals(model, [batch], layers, 2)
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])
    for group in range(2):
        rows = batch.groups == group

        def loss(flat, rows=rows):
            parts = flat.split([layer.weight.numel() for layer in layers])
            given = {f"{layer.name}.weight": p.view_as(layer.weight) for layer, p in zip(layers, parts, strict=True)}
            return F.cross_entropy(torch.func.functional_call(model, given, (batch.images[rows],)), batch.labels[rows])

        hessian = torch.autograd.functional.hessian(loss, weights)
        estimate = torch.cat([diagonal[group].flatten() for diagonal in diagonals])
        noise = hessian.square().sum(1).sqrt() / 3_000**0.5  # standard deviation of the estimator
        assert ((estimate - hessian.diagonal()).abs() <= 5 * noise + 1e-12).all()
        assert torch.corrcoef(torch.stack([estimate, hessian.diagonal()]))[0, 1] > 0.99


@pytest.mark.parametrize("importance", [Hawq(samples=2), Runner()], ids=str)
def test_batching_does_not_matter_and_the_model_is_left_alone(importance, strange):
    model, batch = strange.double(), data(14)
    layers = find_layers(model, "channel")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    one = importance.measure(model, [batch], layers, ("a", "b")).table()
    parts = [
        Batch(*tensor)
        for tensor in zip(*(t.split((5, 1, 8)) for t in (batch.images, batch.labels, batch.groups)), strict=True)
    ]
    torch.testing.assert_close(importance.measure(model, parts, layers, ("a", "b")).table(), one, rtol=1e-8, atol=1e-18)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_runner_is_the_gradient_of_the_gap():
    model, batch = Tiny().double(), data(30)
    layers = find_layers(model, "channel")
    measured = Runner().measure(model, [batch], layers, ("a", "b"))
    losses = torch.stack([
        F.cross_entropy(model(batch.images[batch.groups == g]), batch.labels[batch.groups == g]) for g in range(2)
    ])  # fmt: skip
    slopes = torch.autograd.grad(losses.max() - losses.min(), [layer.weight for layer in layers])
    for layer, slope in zip(layers, slopes, strict=True):
        expected = (slope * layer.weight.detach()).square().sum(1)
        torch.testing.assert_close(measured.scores[layer.name], expected.expand(2, -1))


def test_the_probe_measures_the_quantized_network_and_leaves_it_as_it_was(strange):
    model, batch = strange.eval(), data(10)
    batch = Batch(batch.images.float(), batch.labels, batch.groups)
    layers = find_layers(model, "channel")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = LossProbe(model=model, layers=layers, quantizer=Uniform(), batches=lambda: [batch], groups=3)
    units = sum(layer.units for layer in layers)
    full, low = probe(torch.full((units,), -1)), probe(torch.full((units,), 2))
    with torch.no_grad():
        losses = F.cross_entropy(model(batch.images), batch.labels, reduction="none").double()
    for group in range(2):
        assert float(full[group]) == pytest.approx(float(losses[batch.groups == group].mean()))
    assert torch.isnan(full[2])  # a group without images
    assert not torch.allclose(full[:2], low[:2])
    assert torch.equal(probe(torch.full((units,), 2))[:2], low[:2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_a_probe_measured_is_measured_once(strange, tmp_path, monkeypatch):
    model, batch = strange.eval(), data(10)
    layers = find_layers(model, "channel")
    units = sum(layer.units for layer in layers)
    low, high = torch.full((units,), 2), torch.full((units,), 4)
    passes = []
    inner = LossProbe(
        model=model,
        layers=layers,
        quantizer=Uniform(),
        batches=lambda: [Batch(batch.images.float(), batch.labels, batch.groups)],
        groups=3,
    )
    monkeypatch.setattr(LossProbe, "_losses", lambda self, real=LossProbe._losses: passes.append(1) or real(self))

    def probe(about="uniform"):
        return CachedProbe(inner, tmp_path, about)

    first = probe()
    here = first(low)
    torch.testing.assert_close(here, inner(low), equal_nan=True, rtol=0, atol=0)
    first.save()
    passes.clear()
    again = probe()
    assert torch.equal(again(low).nan_to_num(-1), here.nan_to_num(-1))
    assert not passes
    again(high)
    again.save()
    probe()(low), probe()(high)
    assert len(passes) == 1  # both are known now
    probe("another quantizer")(low)
    with torch.no_grad():
        layers[0].weight.mul_(1.01)
    probe()(low)  # other weights: asked anew
    assert len(passes) == 3
    for file in tmp_path.iterdir():
        file.write_text("{cut off")
    probe()(low)
    assert len(passes) == 4


def test_a_probe_that_is_not_asked_writes_nothing(strange, tmp_path):
    CachedProbe(
        LossProbe(model=strange, layers=(), quantizer=Uniform(), batches=lambda: [], groups=1), tmp_path, ""
    ).save()
    assert not list(tmp_path.iterdir())
