"""From a trained network to quantizers on it: budgets of bytes and operations, measured plans."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairquant_rivals.uniform import UniformBits as UniformBits
from helpers.models import Triples
from helpers.recipes import write_recipe
from torch import nn

import fairquant


def test_losses_measured_for_one_budget_are_reused_by_the_next_and_change_nothing():
    recipe = write_recipe(
        method="fmpq-ptq", quantize={"choices": [2, 4, 8]}, calibration={"images": 24, "probe_images": 8}
    )
    fairquant.run(recipe, "budget.average_bits=3", runs="shared")
    (file,) = Path("shared/probes").glob("*/*.json")
    known = file.read_bytes()
    shared = fairquant.run(recipe, "budget.average_bits=4", runs="shared")
    assert file.read_bytes() == known  # fmpq asks the same of every budget
    assert list(Path("shared/probes").glob("*/*.json")) == [file]
    alone = fairquant.run(recipe, "budget.average_bits=4", runs="alone")
    assert (shared.folder / "bit_plan.csv").read_bytes() == (alone.folder / "bit_plan.csv").read_bytes()


@pytest.mark.parametrize(("method", "limit"), [("fq-baq", "90kB"), ("adq-ptq", "55kB")])
def test_the_file_keeps_to_its_bytes_everything_counted(method, limit):
    recipe = write_recipe(
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
    report = fairquant.run(write_recipe(budget={"average_bits": None, "bops": "60M"})).report
    assert report["budget"] == {"average_bits": None, "bops": 60e6}
    assert 0.9 * 60e6 <= report["bits"]["bops"] <= 60e6
    assert report["bits"]["full_bops"] > 5 * 60e6


def test_quantize_in_python_takes_a_size():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3))
    data = Triples(40, 0)
    result = fairquant.quantize(
        model, data, data, method="fq-qat-ptq", overrides=["budget.average_bits=null", "budget.size=7.5kB", "tracking.mlflow=null"]
    )  # fmt: skip
    assert result.report["artifact"]["bytes"] <= 7500
