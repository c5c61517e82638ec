"""What a comparison may claim: means over seeds, and paired differences on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairquant.audit.confusion import WeighedConfusion, image_weights, in_parts
from fairquant.audit.evaluate import Floats, interval, one_by_one
from fairquant.errors import UserError
from fairquant.roles import Predictions

REPLICATES = 400


@dataclass(frozen=True)
class Spread:
    """mean and standard deviation over seeds (NaN with one seed); values by seed."""

    mean: float
    deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """A method minus the reference, mean over seeds, with the bootstrap interval over test images."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def spread(values: Sequence[float | None]) -> Spread:
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    good = numbers[np.isfinite(numbers)]
    if not len(good):
        return Spread(float("nan"), float("nan"), tuple(numbers.tolist()))
    deviation = float(good.std(ddof=1)) if len(good) > 1 else float("nan")
    return Spread(float(good.mean()), deviation, tuple(numbers.tolist()))


def lower_is_better(metric: Any) -> bool:
    """Gaps are best at 0; a metric may say so itself by `lower_is_better`."""
    return bool(getattr(metric, "lower_is_better", metric.gap))


def paired_differences(
    pairs: Sequence[tuple[Predictions, Predictions]],
    metrics: Sequence[Any],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Difference]:
    """pairs: (reference, method) of each seed, on the same images. label -> method minus reference, mean over seeds.

    Every replicate draws the images of each seed anew, the same for both methods: the interval is about other test
    images of the same kind. It does not speak of other training seeds: see the standard deviation for these.
    """
    totals = {component.label: np.zeros(replicates + 1) for component in metrics}
    for number, (reference, method) in enumerate(pairs):
        if not np.array_equal(reference.labels, method.labels) or reference.ids != method.ids:
            raise UserError("two methods of one seed were not tested on the same images")
        ours = _values(method, metrics, seed + number, replicates)
        for label, values in _values(reference, metrics, seed + number, replicates).items():
            totals[label] += (ours[label] - values) / len(pairs)
    found = {}
    for label, values in totals.items():
        low, high = interval(values[1:])
        found[label] = Difference(float(values[0]), low, high)
    return found


def _values(predictions: Predictions, metrics: Sequence[Any], seed: int, replicates: int) -> Mapping[str, Floats]:
    """label -> [1 + replicates]: the value itself, then its replicates; the same seed draws the same images."""
    size = len(predictions.labels)
    draw = np.random.default_rng([seed, 0xC0DE])
    found: dict[str, list[Floats]] = {component.label: [] for component in metrics}
    drawn = (image_weights(size, part, draw) for part in in_parts(replicates, size))
    for weights in (np.ones((1, size)), *drawn):
        confusion = WeighedConfusion(predictions, weights)
        for component in metrics:
            metric = component.value
            if metric.needs == "confusion":
                found[component.label].append(metric.evaluate(confusion).value)
            elif hasattr(metric, "weighted"):
                found[component.label].append(metric.weighted(predictions, weights))
            else:
                found[component.label].append(one_by_one(metric, predictions, weights))
    return {label: np.concatenate(parts) for label, parts in found.items()}
