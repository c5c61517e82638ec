"""predictions.npz and validation.npz of a run's folder."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fairquant.errors import UserError
from fairquant.roles import OperatingPoint, Predictions
from fairquant.runs.results import BeforeAfter

_AGAIN = "Remove it, and name the model.safetensors of the run: it then predicts again"


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


def checked_predictions(file: Path) -> Predictions:
    """This model's predictions out of a file that may be anything. Raises UserError where it is missing or damaged."""
    try:
        predictions = read_predictions(file).after
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing. Name the model.safetensors of the run: it then predicts again") from error
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise UserError(f"{file}: damaged or cut off. {_AGAIN}") from error
    images, classes = len(predictions.labels), len(predictions.class_names)
    numbers = ((predictions.labels, classes), (predictions.groups, len(predictions.group_names)))
    fits = predictions.logits.dtype.kind == "f" and predictions.logits.shape == (images, classes) == (
        len(predictions.ids),
        classes,
    )
    if not fits or not all(_in_range(values, images, count) for values, count in numbers):
        raise UserError(f"{file}: damaged: its arrays do not fit together. {_AGAIN}")
    return predictions


def _in_range(values: NDArray[np.int64], images: int, count: int) -> bool:
    """Whether these are the numbers [images] of `count` names."""
    if values.shape != (images,) or values.dtype.kind not in "iu":
        return False
    return not images or 0 <= int(values.min()) <= int(values.max()) < count
