"""The statistics of a comparison: means over seeds, and paired differences on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairquant.audit.confusion import WeightedConfusion, chunk_sizes, image_weights
from fairquant.audit.evaluate import Floats, interval, replicate
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.report.comparison import Difference, Spread
from fairquant.roles import AnyMetric, Predictions

REPLICATES = 400


def spread(values: Sequence[float | None]) -> Spread:
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    good = numbers[np.isfinite(numbers)]
    if not len(good):
        return Spread(float("nan"), float("nan"), tuple(numbers.tolist()))
    deviation = float(good.std(ddof=1)) if len(good) > 1 else float("nan")
    return Spread(float(good.mean()), deviation, tuple(numbers.tolist()))


def paired_differences(
    pairs: Sequence[tuple[Predictions, Predictions]],
    metrics: Sequence[Component[AnyMetric]],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Difference]:
    """pairs: (reference, method) of each seed, on the same images. label -> method minus reference, mean over seeds.

    Every replicate draws the images of each seed anew, the same for both methods: the interval is about other test
    images of the same kind, not about other training seeds (for these see the standard deviation).
    """
    totals = {component.label: np.zeros(replicates + 1) for component in metrics}
    for number, (reference, method) in enumerate(pairs):
        if not np.array_equal(reference.labels, method.labels) or reference.ids != method.ids:
            raise UserError("two methods of one seed were not tested on the same images")
        ours = _values(method, metrics, seed + number, replicates)
        for label, values in _values(reference, metrics, seed + number, replicates).items():
            totals[label] += (ours[label] - values) / len(pairs)
    intervals = {label: interval(values[1:]) for label, values in totals.items()}
    return {label: Difference(float(values[0]), *intervals[label]) for label, values in totals.items()}


def _values(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], seed: int, replicates: int
) -> Mapping[str, Floats]:
    """label -> [1 + replicates]: the value itself, then its replicates; the same seed draws the same images."""
    size = len(predictions.labels)
    draw = np.random.default_rng([seed, 0xC0DE])
    values: dict[str, list[Floats]] = {component.label: [] for component in metrics}
    drawn = (image_weights(size, count, draw) for count in chunk_sizes(replicates, size))
    for weights in (np.ones((1, size)), *drawn):
        confusion = WeightedConfusion(predictions, weights)
        for component in metrics:
            values[component.label].append(replicate(component, predictions, confusion, weights))
    return {label: np.concatenate(parts) for label, parts in values.items()}
