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


def registry_with_doubt() -> Registry:
    """All that is installed, and metric `doubt`."""
    registry = discover().registry
    registry.add("metric", "doubt", "helpers.metrics:Doubt", "a stranger's", "stranger")
    return registry
