"""Predictions drawn from known rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairquant.recipe.schema import Component
from fairquant.roles import Predictions


def random_predictions(count=400, classes=4, groups=3, seed=0, accuracy=0.6) -> Predictions:
    """Group g is right about `accuracy` - g / 10 of the time, and by chance."""
    draw = np.random.default_rng(seed)
    labels, group = draw.integers(0, classes, count), draw.integers(0, groups, count)
    logits = draw.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += np.where(draw.random(count) < accuracy - 0.1 * group, 5, 0)
    return _named(logits, labels, group, groups, classes)


def scored_predictions(images: int = 400, classes: int = 4, groups: int = 3, seed: int = 0) -> Predictions:
    """Logits that overlap between classes and have ties, for areas under curves."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, images)
    logits = draw.normal(size=(images, classes)) + 1.2 * np.eye(classes)[labels]
    group = draw.integers(0, groups, images)
    return _named(np.round(logits, 1).astype(np.float32), labels, group, groups, classes)


def _named(logits: np.ndarray, labels: np.ndarray, group: np.ndarray, groups: int, classes: int) -> Predictions:
    return Predictions(
        logits=logits, labels=labels, groups=group, group_names=tuple(f"g{g}" for g in range(groups)),
        class_names=tuple(f"c{c}" for c in range(classes)),
    )  # fmt: skip


def only(metrics: list[Component], label: str) -> list[Component]:
    """The metrics of that label."""
    return [component for component in metrics if component.label == label]


def with_ids(predictions: Predictions) -> Predictions:
    """The predictions with a name for each image."""
    return replace(predictions, ids=tuple(f"image {row}" for row in range(len(predictions.labels))))


def two_models(count: int = 40, seed: int = 0) -> tuple[Predictions, Predictions]:
    """Predictions of two models of the same named images, the second one right less often."""
    first = with_ids(random_predictions(count, seed=seed, accuracy=0.8))
    draw = np.random.default_rng(seed + 1)
    logits = np.where(draw.random(count)[:, None] < 0.3, draw.normal(size=first.logits.shape), first.logits)
    return first, replace(first, logits=logits.astype(np.float32))


def decided(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None, class_names: tuple[str, ...] = ("MEL", "NV", "BKL"),
    group_names: tuple[str, ...] = ("dark", "light"), sure: float = 3.0,
) -> Predictions:  # fmt: skip
    """Predictions of a model that answers `predicted`, each with the same certainty."""
    labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    return Predictions(
        logits=sure * np.eye(len(class_names), dtype=np.float32)[predicted], labels=labels,
        groups=np.zeros_like(labels) if groups is None else np.asarray(groups, np.int64),
        group_names=group_names if groups is not None else ("everyone",), class_names=class_names,
    )  # fmt: skip


def cell_images(per_cell: int, classes: int = 3, groups: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """labels, groups: as many images of each class in each group."""
    labels, group = (each.ravel() for each in np.mgrid[:classes, :groups])
    return np.repeat(labels, per_cell), np.repeat(group, per_cell)


def wrong_where(labels: np.ndarray, wrong: np.ndarray, classes: int = 3) -> np.ndarray:
    """Answers that are right but for the marked images, which are taken for the next class."""
    return np.where(wrong, (labels + 1) % classes, labels)
