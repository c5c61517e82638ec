"""Which epoch is kept, and when to stop: any metric on validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fairquant.audit.confusion import confusion_of
from fairquant.audit.operating import choose_threshold
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import OperatingPointSettings, TrainSettings
from fairquant.roles import AnyMetric, Predictions
from fairquant.roles.metric import lower_is_better

Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured on validation after each epoch. metrics: besides accuracies; reference: predictions of the
    full-precision model, for metrics that compare; operating: settings of the operating point, for metrics at it."""

    metrics: Sequence[Component[AnyMetric]] = ()
    reference: Predictions | None = None
    operating: OperatingPointSettings | None = None

    def of(self, predictions: Predictions) -> Values:
        """label -> value; NaN where a metric is not defined."""
        values = accuracies(predictions)
        if not self.metrics:
            return values
        predictions = replace(predictions, reference=self.reference)
        if self.operating is not None:
            predictions = replace(predictions, operating=choose_threshold(predictions, self.operating))
        for component in self.metrics:
            metric = component.value
            rates = (
                metric.evaluate(confusion_of(predictions))
                if metric.needs == "confusion"
                else metric.evaluate(predictions)
            )
            values[component.label] = float(rates.value)
        return values

    def sign(self, label: str) -> float:
        """1 where higher values of the metric are better, else -1."""
        return -1.0 if any(c.label == label and lower_is_better(c.value) for c in self.metrics) else 1.0


class Selection:
    """The best epoch so far: kept by `train.select`, or else by the metric of early stopping."""

    def __init__(self, settings: TrainSettings, measures: Measures) -> None:
        self.stopping = settings.early_stopping
        self.label = settings.select or (self.stopping.metric if self.stopping is not None else None)
        self.measures = measures
        self.best: tuple[float, int] = (-math.inf, -1)  # of the label that is kept: sign * value, epoch
        self.last_gain: tuple[float, int] = (-math.inf, -1)  # of early stopping's own metric

    def check(self, values: Values) -> None:
        """UserError where a metric that chooses the epoch is not defined on these validation images."""
        for label in dict.fromkeys([self.label, None if self.stopping is None else self.stopping.metric]):
            if label is not None and math.isnan(values.get(label, math.nan)):
                raise UserError(
                    f"{label} is to choose the epoch, and is not defined on validation: too few images of some kind. Choose "
                    "another metric for select and early_stopping, or a smaller min_support"
                )

    def is_best(self, values: Values, epoch: int) -> bool:
        """Whether this epoch is to be kept; remembers it."""
        if self.stopping is not None:
            gain = self.measures.sign(self.stopping.metric) * values.get(self.stopping.metric, math.nan)
            if gain > self.last_gain[0]:
                self.last_gain = (gain, epoch)
        if self.label is None:
            return False
        score = self.measures.sign(self.label) * values.get(self.label, math.nan)
        if score > self.best[0]:
            self.best = (score, epoch)
            return True
        return False

    def out_of_patience(self, epoch: int) -> bool:
        """Whether early stopping's metric has not improved for its patience; epoch: how many are done."""
        at = self.last_gain[1]
        return self.stopping is not None and at >= 0 and epoch - 1 - at >= self.stopping.patience

    def state(self) -> list[float]:
        """For a checkpoint."""
        return [*self.best, *self.last_gain]

    def load(self, state: Sequence[float]) -> None:
        self.best, self.last_gain = (state[0], int(state[1])), (state[2], int(state[3]))


def accuracies(predictions: Predictions) -> Values:
    """Accuracies on validation, which progress and tracking show after each epoch."""
    right = predictions.predicted == predictions.labels
    groups = [right[predictions.groups == g].mean() for g in np.unique(predictions.groups)]
    classes = [right[predictions.labels == c].mean() for c in np.unique(predictions.labels)]
    return {
        "accuracy": float(right.mean()),
        "balanced-accuracy": float(np.mean(classes)),
        "worst-group-accuracy": float(min(groups)),
        "group-mean-accuracy": float(np.mean(groups)),
    }
