"""report.json and bit_plan.csv."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

KEYS = {
    "method", "seed", "recipe", "dataset", "budget", "bits", "artifact", "metrics", "baseline", "change", "optimality",
    "timings", "versions",
}  # fmt: skip


def test_the_report_has_exactly_the_promised_keys(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    assert set(report) == KEYS
    assert set(report["dataset"]) == {"name", "fingerprint", "classes", "attributes", "counts"}
    assert set(report["bits"]) == {"average", "histogram", "weight_bytes", "moved"}
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
