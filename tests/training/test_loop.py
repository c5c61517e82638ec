"""The training loop: its options, deterministic."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    "options",
    [
        ["regularizers=[{name: nir}, {name: feature-mmd}, {name: distillation, balanced: true}]"],
        ["regularizers=[{name: group-dro}, {name: loss-gap}]", "train.running_group_losses=0.9",
         "train.sampler=group-balanced", "train.batch_norm=re-estimate-group-balanced"],
    ],
    ids=["features and teacher", "memories"],
)  # fmt: skip
def test_a_run_with_these_options_is_the_same_twice(tmp_path, options):
    from fairquant.api import run

    reports = [
        run(
            "quickstart",
            "method=fq-qat",
            *options,
            "train.epochs=1",
            "baseline.epochs=1",
            "dataset.images=120",
            "tracking.mlflow=null",
            demo=True,
            runs=tmp_path / name,
        )
        for name in ("one", "two")
    ]
    one, two = (np.load(result.folder / "predictions.npz") for result in reports)
    assert np.array_equal(one["logits"], two["logits"])
    assert not np.array_equal(one["logits"], one["baseline_logits"])
