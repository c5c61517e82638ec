"""Plans that are made anew in the middle of training: what is measured, what is inferred, and that a run keeps its budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform

import fairquant
from fairquant.roles import AllocationProblem
from fairquant.runs import pipeline
from fairquant.runs.replanning import averaged, extrapolated, rate_distortion, replan

COLUMNS = tuple(range(9))
SMALL = [
    "tracking.mlflow=null", "model.name=test_resnet", "model.image_size=32", "dataset.images=120", "train.epochs=4",
    "baseline.epochs=1", "budget.average_bits=2", "train.learning_rate=3e-3", "train.replan=true",
]  # fmt: skip


@pytest.mark.parametrize("quantizer", [Uniform(), Uniform(scale="learned"), Baq()])
def test_the_curve_of_a_quantizer_is_what_each_width_leaves_of_normal_weights(quantizer):
    curve = rate_distortion(quantizer, COLUMNS)
    assert curve[0] == 1
    assert curve[1].item() == pytest.approx(1 - 2 / math.pi, abs=0.003)  # signs times the mean size
    assert curve[2].item() == pytest.approx(0.1902, abs=0.003)  # three levels (Max, 1960)
    assert (curve.diff() < 0).all()
    assert curve[8] < 1e-4


def problem(errors: torch.Tensor, by_group: torch.Tensor | None = None) -> AllocationProblem:
    units = len(errors)
    return AllocationProblem(
        scores=torch.ones(units), group_scores=torch.ones(2, units), sizes=torch.ones(units, dtype=torch.int64), errors=errors,
        allowed=torch.ones(units, 9, dtype=torch.bool), choices=COLUMNS, average_bits=2.0, measured_errors=errors,
        measured_group_errors=by_group,
    )  # fmt: skip


def test_errors_that_follow_the_curve_are_found_again_from_what_one_width_less_does():
    curve = rate_distortion(Uniform(), COLUMNS)
    bits = torch.tensor([0, 1, 2, 3, 5, 8])
    energy = torch.tensor([2.0, 5.0, 1.0, 0.5, 30.0, 7.0]).double()
    whole = energy[:, None] * curve
    now = whole.gather(1, bits[:, None])
    seen = torch.where(torch.arange(9) < bits[:, None], whole - now, 1e9)  # above its own width nothing can be measured
    seen[0, 0] = whole[0, 0]  # pruned: what is left away
    groups = torch.stack([seen, 3 * seen])
    found = extrapolated(problem(seen, groups), bits, curve)
    torch.testing.assert_close(found.errors, whole)
    torch.testing.assert_close(found.measured_errors, whole)
    torch.testing.assert_close(found.measured_group_errors, torch.stack([whole, 3 * whole]))


def test_the_first_plans_errors_and_these_count_equally():
    one, two = problem(torch.full((3, 9), 4.0)), problem(torch.full((3, 9), 9.0))
    found = averaged(one, two, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(found.errors, torch.full((3, 9), 6.0).double())
    assert found.measured_group_errors is None


def test_pruned_units_keep_their_first_errors_in_proportion_to_the_others():
    first = torch.tensor([1.0, 3.0, 5.0])[:, None].expand(3, 9)
    second = torch.tensor([4.0, 1e9, 20.0])[:, None].expand(3, 9)
    found = averaged(problem(first), problem(second), torch.tensor([True, False, True]))
    torch.testing.assert_close(found.errors, 2 * first.double())
    nothing = averaged(problem(first), problem(second), torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(nothing.errors, first.double())


@pytest.mark.parametrize("method", ["fq-gptq", "fq-baq"])
def test_a_run_plans_anew_within_its_budget_and_is_the_same_twice(tmp_path, monkeypatch, method):
    plans = []

    def watched(planning, attachment, *rest):
        before = {name: value.clone() for name, value in planning.model.network.state_dict().items()}
        training = planning.model.network.training
        plans.append(replan(planning, attachment, *rest))
        after = planning.model.network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert planning.model.network.training == training
        return plans[-1]

    monkeypatch.setattr(pipeline, "replan", watched)
    one, two = (
        fairquant.run("quickstart", f"method={method}", *SMALL, demo=True, runs=tmp_path / name)
        for name in ("one", "two")
    )
    assert len(plans) == 6  # freeze_bits_after 0.6 of four epochs: after each of the first three
    assert all(plan.average <= 2.0 for plan in plans)
    assert len({str(plan.bits) for plan in plans[:3]}) > 1
    for first, second in zip(plans[:3], plans[3:], strict=True):
        assert all(torch.equal(first.bits[name], second.bits[name]) for name in first.bits)
    logits = [np.load(result.folder / "predictions.npz")["logits"] for result in (one, two)]
    assert np.array_equal(*logits)
    average = one.report["bits"]["average"]
    assert average <= 2.0
    assert average == pytest.approx(plans[2].average, abs=0.0 if method != "fq-baq" else 0.05)
    assert fairquant.load(one.folder / "model.safetensors") is not None
