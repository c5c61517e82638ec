"""The models and data sets of the paper, in small form."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("name", "method"),
    [("fitz_resnet18", "uniform-4-ptq"), ("fitz_resnet50", "uniform-4-ptq"), ("fitz_deit", "uniform-4-ptq"), ("fitz_tinyvit", "fq-baq"),
     ("isic_resnet18", "fq-baq"), ("isic_resnet50", "uniform-4-ptq"), ("isic_deit", "fq-baq"), ("isic_tinyvit", "uniform-4-ptq")],
)  # fmt: skip
def test_the_papers_grid_runs_in_small_form(tmp_path, name, method):
    from fairquant.api import run

    short = ["quantize.choices=[4]"] if method == "uniform-4-ptq" else []
    result = run(
        name, f"method={method}", *short, "dataset.images=80", "model.image_size=64", "baseline.epochs=1", "train.epochs=1",
        "train.batch_size=16", "baseline.batch_size=16", "calibration.images=16", "calibration.batch_size=16",
        "tracking.mlflow=null", "baseline.augment=flips", "train.augment=flips", demo=True, runs=tmp_path,
    )  # fmt: skip
    assert "DEMO" in result.report["recipe"]
    assert result.report["bits"]["average"] <= result.report["budget"]["average_bits"] <= 4
