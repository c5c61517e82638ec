"""report.json and bit_plan.csv."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fairquant.recipe import read_recipe
from fairquant.report.comparison import Spread
from fairquant.report.run import budget_report, finite, optimality_report, plain, plan_csv
from fairquant.roles import Allocation, BitPlan

KEYS = {
    "method", "seed", "recipe", "dataset", "budget", "bits", "artifact", "metrics", "baseline", "change", "accept", "cells",
    "operating_point", "optimality", "fallback", "rounding", "timings", "versions", "identity",
}  # fmt: skip


def test_the_report_has_exactly_the_promised_keys(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    assert set(report) == KEYS
    assert set(report["dataset"]) == {"name", "fingerprint", "classes", "attributes", "counts", "labels"}
    assert set(report["bits"]) == {"average", "average_all", "in_float", "histogram", "weight_bytes", "moved"}
    assert set(report["artifact"]) == {"path", "bytes", "sha256"}
    assert set(report["change"]) == {"accuracy", "flips", "harmful_flips"}
    assert set(report["optimality"]) == {"lower_bound", "gap"}
    for section in (report["metrics"], report["baseline"]["metrics"]):
        assert set(section) >= {
            "accuracy",
            "balanced-accuracy",
            "worst-group-accuracy",
            "eodd",
            "eodd-fairprune",
            "eopp0-fairquant",
        }
        assert all(set(value) == {"value", "low", "high", "by_group", "skipped"} for value in section.values())


def test_plan_report_predictions_and_artifact_agree(finished):
    report = finished.report
    rows = list(csv.DictReader((finished.folder / "bit_plan.csv").open()))
    weights = np.array([int(row["weights"]) for row in rows])
    bits = np.array([int(row["bits"]) for row in rows])
    assert (weights * bits).sum() / weights.sum() == pytest.approx(report["bits"]["average"])
    assert report["bits"]["average"] <= 2.5
    assert sum(report["bits"]["histogram"].values()) == weights.sum()
    assert report["artifact"]["bytes"] == (finished.folder / "model.safetensors").stat().st_size
    stored = np.load(finished.folder / "predictions.npz")
    assert (
        stored["logits"].shape
        == (len(stored["labels"]), len(report["dataset"]["classes"]))
        == stored["baseline_logits"].shape
    )
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(
        (stored["logits"].argmax(1) == stored["labels"]).mean()
    )
    assert list(stored["group_names"]) == ["tones I-III", "tones IV-VI"]
    assert len(set(stored["ids"].tolist())) == len(stored["labels"]) == report["dataset"]["counts"]["test"]


def test_undefined_numbers_become_null():
    assert [finite(value) for value in (0.5, None, float("nan"), float("inf"))] == [0.5, None, None, None]


def test_data_classes_become_plain_data():
    value = {"rows": (Spread(0.5, float("nan"), (0.5,)),), 3: "three"}
    assert plain(value) == {"rows": [{"mean": 0.5, "deviation": None, "values": [0.5]}], "3": "three"}


def test_the_plan_has_a_line_for_each_unit():
    plan = BitPlan({"conv1": torch.tensor([2, 0]), "fc": torch.tensor([8])}, {"conv1": 27, "fc": 40})
    assert plan_csv(plan) == b"layer,unit,weights,bits\nconv1,0,27,2\nconv1,1,27,0\nfc,0,40,8\n"
    assert plan_csv(None) == b"layer,unit,weights,bits\n"


def test_the_budget_names_only_the_limits_that_there_are(registry):
    def report(*overrides, nominal=None):
        quantized = SimpleNamespace(allocation=Allocation(torch.zeros(1), nominal_bits=nominal))
        return budget_report(
            read_recipe("quickstart", overrides, registry=registry), SimpleNamespace(quantized=quantized)
        )

    assert report("budget.average_bits=3") == {"average_bits": 3.0}
    assert report("budget.average_bits=3", "budget.size=90kB", nominal=5.2) == {
        "average_bits": 3.0,
        "size_bytes": 90e3,
        "nominal_bits": 5.2,
    }
    assert report("budget.average_bits=null", "budget.bops=12G") == {"average_bits": None, "bops": 12e9}
    full_precision = read_recipe("quickstart", ["method=fp32"], registry=registry)
    assert budget_report(full_precision, SimpleNamespace(quantized=None)) == {"average_bits": None}


@pytest.mark.parametrize(("allocation", "certificate"), [
    (Allocation(torch.zeros(1), 2.5, 2.0), {"lower_bound": 2.0, "gap": 0.25}), (Allocation(torch.zeros(1)), {}),
])  # fmt: skip
def test_a_certificate_is_reported_where_the_allocator_has_one(allocation, certificate):
    assert optimality_report(SimpleNamespace(quantized=SimpleNamespace(allocation=allocation))) == certificate
