"""A metric that no package of ours has: registered by the tests that need a stranger's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fairquant.registry import Registry, discover
from fairquant.roles import Predictions, Rates


@dataclass(frozen=True)
class Doubt:
    """Mean probability that is not on the true class: slow (it takes no weights), better low."""

    power: float = 1.0
    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False
    lower_is_better: ClassVar[bool] = True

    def evaluate(self, predictions: Predictions) -> Rates:
        doubt = (1 - predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]) ** self.power
        by_group = [doubt[predictions.groups == g].mean() for g in range(len(predictions.group_names))]
        return Rates(np.asarray(doubt.mean()), np.array(by_group))


@dataclass(frozen=True)
class Miscounted:
    """A fraction of images whose counts are whole numbers in place of true and false."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False

    def evaluate(self, predictions: Predictions) -> Rates:
        return Rates(np.asarray((predictions.predicted == predictions.labels).mean()))

    def counted(self, predictions: Predictions):
        right = (predictions.predicted == predictions.labels).astype(int)
        return np.ones_like(right), right


@dataclass(frozen=True)
class Raises:
    """A metric with an error in it."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False

    def evaluate(self, predictions: Predictions) -> Rates:
        raise ZeroDivisionError("of a stranger")


@dataclass(frozen=True)
class TwoValues:
    """One value too many under each row of weights."""

    needs: ClassVar[Literal["predictions"]] = "predictions"
    gap: ClassVar[bool] = False

    def evaluate(self, predictions: Predictions) -> Rates:
        return Rates(np.asarray(0.5))

    def weighted(self, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
        return np.zeros((len(weights), 2))


def registry_with_doubt() -> Registry:
    """All that is installed, and metric `doubt`."""
    registry = discover().registry
    for name, cls in (("doubt", "Doubt"), ("miscounted", "Miscounted"), ("two-values", "TwoValues")):
        registry.add("metric", name, f"helpers.metrics:{cls}", "a stranger's", "stranger")
    return registry
