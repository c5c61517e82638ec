"""Counts behind every threshold metric, and their bootstrap replicates."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fairquant.roles import Confusion, Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def confusion_tensor(predictions: Predictions) -> Floats:
    """[G, C true, C predicted] counts."""
    groups, classes = len(predictions.group_names), len(predictions.class_names)
    cell = (predictions.groups * classes + predictions.labels) * classes + predictions.predicted
    return np.bincount(cell, minlength=groups * classes**2).reshape(groups, classes, classes).astype(np.float64)


def confusion_of(predictions: Predictions) -> Confusion:
    """The counts, with those of the full-precision model beside them."""
    reference = None if predictions.reference is None else Confusion(confusion_tensor(predictions.reference))
    return Confusion(confusion_tensor(predictions), predictions.class_names, reference)


def image_weights(images: int, replicates: int, draw: np.random.Generator) -> Floats:
    """Bootstrap of images as weights: how often each image is drawn [replicates, images]."""
    rows = draw.integers(0, images, (replicates, images)) + np.arange(replicates)[:, None] * images
    return np.bincount(rows.ravel(), minlength=replicates * images).reshape(replicates, images).astype(np.float64)


class WeightedConfusion(Confusion):
    """Confusions of the same images under many rows of image weights [R, N], R times. Metrics mostly want sums: these come
    straight from the weights; the table, 100 times as large with 100 classes, is laid out only for a metric that asks."""

    def __init__(
        self,
        predictions: Predictions,
        weights: Floats,
        groups: Ints | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        """weights [R, N]. groups [N] and shape (R, G): other than the predictions' own, see `of_permuted_groups`."""
        self.predictions, self.weights, self.class_names = predictions, weights, predictions.class_names
        self.groups = predictions.groups if groups is None else groups
        self.shape = (len(weights), len(predictions.group_names)) if shape is None else shape

    def beside(self, other: Predictions) -> WeightedConfusion:
        """Another model on the same images under the same weights; what does not depend on answers is summed once."""
        confusion = WeightedConfusion(other, self.weights, self.groups, self.shape)
        confusion.__dict__ |= {"truth": self.truth, "_by_image": self._by_image}  # of the cached properties
        return confusion

    def of_model(self, other: Predictions) -> WeightedConfusion:
        """`beside`, or this one's reference where that is the model."""
        reference = self.reference if other is self.predictions.reference else None
        return reference if isinstance(reference, WeightedConfusion) else self.beside(other)

    @classmethod
    def of_permuted_groups(cls, predictions: Predictions, replicates: int, draw: np.random.Generator) -> Confusion:
        """The groups shuffled over the images in each replicate: what a gap is by chance alone."""
        groups = len(predictions.group_names)
        shuffled = draw.permuted(np.broadcast_to(predictions.groups, (replicates, len(predictions.groups))), axis=1)
        member = (shuffled[:, None] == np.arange(groups)[:, None]).astype(np.float64)
        everyone = np.zeros_like(predictions.groups)  # the weights say who is in which group
        return cls(predictions, member.reshape(replicates * groups, -1), everyone, (replicates, groups))

    @cached_property
    def reference(self) -> Confusion:
        """The full-precision model's counts under the same weights."""
        if self.predictions.reference is None:
            return self
        return self.beside(self.predictions.reference)

    @cached_property
    def table(self) -> Floats:
        """Weighted counts [R, G, C true, C predicted]."""
        classes = len(self.predictions.class_names)
        sums = self._sums(self.predictions.labels * classes + self.predictions.predicted, classes**2)
        return sums.reshape(*self.shape, classes, classes)

    @cached_property
    def hits(self) -> Floats:
        """Weighted correct predictions by group and class [R, G, C]."""
        right = self.predictions.predicted == self.predictions.labels
        return self._sums(self.predictions.predicted, len(self.predictions.class_names), right)

    @cached_property
    def truth(self) -> Floats:
        """Weighted images of each class in each group [R, G, C]."""
        return self._sums(self.predictions.labels, len(self.predictions.class_names))

    @cached_property
    def predicted(self) -> Floats:
        """Weighted predictions of each class in each group [R, G, C]."""
        return self._sums(self.predictions.predicted, len(self.predictions.class_names))

    def _sums(self, within: Ints, width: int, counted: NDArray[np.bool_] | None = None) -> Floats:
        """Weights summed by group and by the images' place within it [R, G, width]."""
        images = np.arange(len(within)) if counted is None else np.flatnonzero(counted)
        place = self.groups * width + within
        cells = int(np.prod(self.shape)) // len(self.weights) * width
        add = csr_array((np.ones(len(images)), (images, place[images])), shape=(len(within), cells))
        sums = np.asarray(add.T @ self._by_image).T
        return sums.reshape(*self.shape, width)

    @cached_property
    def _by_image(self) -> Floats:
        return np.ascontiguousarray(self.weights.T)


def chunk_sizes(total: int, cells: int) -> list[int]:
    """Replicates to draw at a time, so that a chunk stays in the processor's cache."""
    step = max(1, min(total, 400_000 // max(cells, 1)))
    return [min(step, total - start) for start in range(0, total, step)]
