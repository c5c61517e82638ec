"""predictions.npz and validation.npz of a run's folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairquant.roles import Predictions
from fairquant.runs.results import BeforeAfter


def predictions_npz(predictions: BeforeAfter) -> bytes:
    """logits, baseline_logits [N, C], labels, groups [N], group_names, class_names, ids; same bytes for same numbers."""
    before, after = predictions.before, predictions.after
    stream = io.BytesIO()
    np.savez(
        stream, logits=after.logits, baseline_logits=before.logits, labels=after.labels, groups=after.groups,
        group_names=np.array(after.group_names), class_names=np.array(after.class_names), ids=np.array(after.ids),
    )  # fmt: skip
    return stream.getvalue()


def read_predictions(file: Path) -> BeforeAfter:
    """The predictions out of a run's predictions.npz (test) or validation.npz."""
    with np.load(file, allow_pickle=False) as stored:

        def predictions(key: str) -> Predictions:
            return Predictions(
                logits=stored[key], labels=stored["labels"], groups=stored["groups"],
                group_names=tuple(stored["group_names"].tolist()), class_names=tuple(stored["class_names"].tolist()),
                ids=tuple(stored["ids"].tolist()),
            )  # fmt: skip

        return BeforeAfter(predictions("baseline_logits"), predictions("logits"))
