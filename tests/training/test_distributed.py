"""torchrun: two processes give what one gives with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SMALL = [
    "dataset.images=110", "model.image_size=32", "baseline.epochs=1", "train.epochs=2", "baseline.batch_size=31",
    "train.batch_size=31", "calibration.images=48", "tracking.mlflow=null",
]  # fmt: skip


def run(place: Path, *overrides: str, processes: int) -> tuple[dict[str, Any], Any]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launch = torchrun if processes > 1 else [sys.executable]
    command = [
        *launch,
        "-m",
        "fairquant",
        "run",
        "quickstart",
        *SMALL,
        *overrides,
        "--runs",
        str(place / str(processes)),
    ]
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=140
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("report  ") == 1  # only rank 0 prints
    folder = next((place / str(processes)).glob("quickstart/*/report.json")).parent
    return json.loads((folder / "report.json").read_text()), np.load(folder / "predictions.npz")


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=fq-baq",),
        ("method=fq-qat", "regularizers=[group-dro, feature-mmd, {name: distillation}]", "train.precision=fp32"),
    ],
    ids=["baq", "regularizers that see features and a teacher"],
)
def test_two_processes_give_what_one_gives(tmp_path, overrides):
    one, alone = run(tmp_path, *overrides, processes=1)
    two, together = run(tmp_path, *overrides, processes=2)
    np.testing.assert_allclose(together["baseline_logits"], alone["baseline_logits"], rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(together["logits"], alone["logits"], rtol=1e-2, atol=3e-2)
    assert two["bits"]["average"] == pytest.approx(one["bits"]["average"], abs=0.02)
    for label, metric in one["metrics"].items():
        if metric["value"] is not None:
            assert two["metrics"][label]["value"] == pytest.approx(metric["value"], abs=0.05), label
    assert one["dataset"] == two["dataset"]
