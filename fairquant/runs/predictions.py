"""predictions.npz and validation.npz of a run's folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairquant.roles import OperatingPoint, Predictions
from fairquant.runs.results import BeforeAfter


def predictions_npz(predictions: BeforeAfter) -> bytes:
    """logits, baseline_logits [N, C], labels, groups [N], group_names, class_names, ids, and where there is
    an operating point its classes and both thresholds; same bytes for same numbers."""
    before, after = predictions.before, predictions.after
    stream = io.BytesIO()
    np.savez(
        stream, logits=after.logits, baseline_logits=before.logits, labels=after.labels, groups=after.groups,
        group_names=np.array(after.group_names), class_names=np.array(after.class_names), ids=np.array(after.ids),
        positive_classes=np.array(() if after.operating is None else after.operating.classes, np.int64),
        thresholds=np.array([each.operating.threshold for each in (before, after) if each.operating is not None]),
    )  # fmt: skip
    return stream.getvalue()


def read_predictions(file: Path) -> BeforeAfter:
    """The predictions out of a run's predictions.npz (test) or validation.npz."""
    with np.load(file, allow_pickle=False) as stored:
        classes = tuple(int(number) for number in stored["positive_classes"]) if "positive_classes" in stored else ()

        def predictions(key: str, place: int) -> Predictions:
            point = OperatingPoint(classes, float(stored["thresholds"][place])) if classes else None
            return Predictions(
                logits=stored[key], labels=stored["labels"], groups=stored["groups"],
                group_names=tuple(stored["group_names"].tolist()), class_names=tuple(stored["class_names"].tolist()),
                ids=tuple(stored["ids"].tolist()), operating=point,
            )  # fmt: skip

        return BeforeAfter(predictions("baseline_logits", 0), predictions("logits", 1))
