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
    """Bootstrap of images as weights: how often each image is drawn [replicates, images]; one image's weights lie side by side
    in memory, for sums over images."""
    place = draw.integers(0, images, (replicates, images)) * replicates + np.arange(replicates)[:, None]
    return np.bincount(place.ravel(), minlength=replicates * images).reshape(images, replicates).T.astype(np.float64)


class _Replicates(Confusion):
    """Confusions of the same images, R times. Metrics mostly want sums: these come straight from the images; the table, 100
    times as large with 100 classes, is laid out only for a metric that asks."""

    def __init__(self, predictions: Predictions, replicates: int) -> None:
        self.predictions, self.class_names = predictions, predictions.class_names
        self.shape = (replicates, len(predictions.group_names))

    def beside(self, other: Predictions) -> _Replicates:
        """Another model on the same images in the same replicates."""
        raise NotImplementedError

    def sums(self, within: Ints, width: int, counted: NDArray[np.bool_] | None = None) -> Floats:
        """Images (all, or those counted [N]) by group and by their place within it [R, G, width]."""
        raise NotImplementedError

    @cached_property
    def reference(self) -> Confusion:
        """The full-precision model's counts in the same replicates."""
        return self if self.predictions.reference is None else self.beside(self.predictions.reference)

    @cached_property
    def table(self) -> Floats:
        """Counts [R, G, C true, C predicted]."""
        classes = len(self.class_names)
        sums = self.sums(self.predictions.labels * classes + self.predictions.predicted, classes**2)
        return sums.reshape(*self.shape, classes, classes)

    @cached_property
    def hits(self) -> Floats:
        """Correct predictions by group and class [R, G, C]."""
        right = self.predictions.predicted == self.predictions.labels
        return self.sums(self.predictions.predicted, len(self.class_names), right)

    @cached_property
    def truth(self) -> Floats:
        """Images of each class in each group [R, G, C]."""
        return self.sums(self.predictions.labels, len(self.class_names))

    @cached_property
    def predicted(self) -> Floats:
        """Predictions of each class in each group [R, G, C]."""
        return self.sums(self.predictions.predicted, len(self.class_names))


class WeightedConfusion(_Replicates):
    """Confusions of the same images under many rows of image weights [R, N]."""

    def __init__(self, predictions: Predictions, weights: Floats) -> None:
        super().__init__(predictions, len(weights))
        self.weights = weights

    def beside(self, other: Predictions) -> WeightedConfusion:
        """Another model on the same images under the same weights; what does not depend on answers is summed once."""
        confusion = WeightedConfusion(other, self.weights)
        confusion.__dict__["truth"] = self.truth  # of the cached property
        return confusion

    def of_model(self, other: Predictions) -> WeightedConfusion:
        """`beside`, or this one's reference where that is the model."""
        reference = self.reference if other is self.predictions.reference else None
        return reference if isinstance(reference, WeightedConfusion) else self.beside(other)

    def sums(self, within: Ints, width: int, counted: NDArray[np.bool_] | None = None) -> Floats:
        """Weights of images (all, or those counted [N]) by group and by their place within it [R, G, width]."""
        place, images = self.predictions.groups * width + within, len(within)
        ones = np.ones(images) if counted is None else counted.astype(np.float64)
        add = csr_array((ones, place, np.arange(images + 1)), shape=(images, self.shape[1] * width))
        return np.asarray(add.T @ self.weights.T).T.reshape(*self.shape, width)


class PermutedConfusion(_Replicates):
    """The groups shuffled over the images in each of R replicates: what a gap is by chance alone."""

    def __init__(self, predictions: Predictions, groups: Ints) -> None:
        """groups [R, N]."""
        super().__init__(predictions, len(groups))
        self.groups = groups

    @classmethod
    def draw(cls, predictions: Predictions, replicates: int, draw: np.random.Generator) -> PermutedConfusion:
        """R permutations of the images' groups."""
        everyone = np.broadcast_to(predictions.groups, (replicates, len(predictions.groups)))
        return cls(predictions, draw.permuted(everyone, axis=1))

    def beside(self, other: Predictions) -> PermutedConfusion:
        """Another model on the same images with the same groups."""
        return PermutedConfusion(other, self.groups)

    def sums(self, within: Ints, width: int, counted: NDArray[np.bool_] | None = None) -> Floats:
        """Images (all, or those counted [N]) by group and by their place within it [R, G, width]."""
        groups, kept = (self.groups, within) if counted is None else (self.groups[:, counted], within[counted])
        row = np.arange(self.shape[0])[:, None] * self.shape[1]
        place = (row + groups) * width + kept
        cells = self.shape[0] * self.shape[1] * width
        return np.bincount(place.ravel(), minlength=cells).reshape(*self.shape, width).astype(np.float64)


def chunk_sizes(total: int, cells: int) -> list[int]:
    """Replicates to draw at a time, so that a chunk stays in the processor's cache."""
    step = max(1, min(total, 400_000 // max(cells, 1)))
    return [min(step, total - start) for start in range(0, total, step)]
