"""From predictions to numbers with intervals: every metric, and what changed against full precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.confusion import WeightedConfusion, chunk_sizes, confusion_of, image_weights, resample
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.roles import AnyMetric, Confusion, MetricValue, Predictions, Rates, SampleMetric, WeightedMetric

Floats = NDArray[np.float64]
REPLICATES, SAMPLE_REPLICATES, PERMUTATIONS, LEVEL = 1_000, 300, 200, 0.95


@dataclass(frozen=True)
class Change:
    """One quantity of the comparison with full precision: overall and by group, each with its interval."""

    value: float
    low: float
    high: float
    by_group: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Audit:
    """metrics and baseline: label -> MetricValue; change: accuracy, flips, harmful_flips against the baseline."""

    metrics: dict[str, MetricValue]
    baseline: dict[str, MetricValue]
    change: dict[str, Change]
    images: dict[str, int]


def audit(
    predictions: Predictions,
    baseline: Predictions,
    metrics: Sequence[Component[AnyMetric]],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Audit:
    """Every metric of both predictions, which are on the same images, and what changed between them."""
    counts = np.bincount(predictions.groups, minlength=len(predictions.group_names))
    return Audit(
        evaluate(predictions, metrics, seed=seed, replicates=replicates),
        evaluate(baseline, metrics, seed=seed, replicates=replicates),
        change_against(predictions, baseline, seed=seed, replicates=replicates),
        {name: int(count) for name, count in zip(predictions.group_names, counts, strict=True)},
    )


def evaluate(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, MetricValue]:
    """Every metric with its percentile interval; gaps also with their permutation baseline. Raises UserError on no images."""
    if not len(predictions.labels):
        raise UserError("there are no images to audit")
    table = confusion_of(predictions)
    spreads = _replicates(predictions, metrics, seed, replicates)
    baselines = permutation_baselines(predictions, metrics, seed=seed)
    values = {}
    for component in metrics:
        metric, label = component.value, component.label
        rates = metric.evaluate(table) if metric.needs == "confusion" else metric.evaluate(predictions)
        bounds = interval(spreads[label], around=float(rates.value) if metric.gap else None)
        values[label] = _metric_value(rates, bounds, predictions.group_names, baselines.get(label))
    return values


def _replicates(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], seed: int, replicates: int
) -> dict[str, Floats]:
    """Every metric under bootstraps of the images: label -> [replicates], fewer where it cannot take image weights."""
    draw = np.random.default_rng([seed, 0xB007])
    values: dict[str, list[Floats]] = {component.label: [] for component in metrics}
    done = 0
    for count in chunk_sizes(replicates, len(predictions.labels)):
        weights = image_weights(len(predictions.labels), count, draw)
        confusion = WeightedConfusion(predictions, weights)
        for component in metrics:
            metric = component.value
            is_slow = metric.needs == "predictions" and not isinstance(metric, WeightedMetric)
            rows = weights[: max(SAMPLE_REPLICATES - done, 0)] if is_slow else weights
            if len(rows):
                values[component.label].append(replicate(metric, predictions, confusion, rows))
        done += count
    return {label: np.concatenate(parts) for label, parts in values.items()}


def replicate(metric: AnyMetric, predictions: Predictions, confusion: Confusion, weights: Floats) -> Floats:
    """A metric under R rows of image weights [R, N], of which `confusion` is the confusion -> [R]."""
    if metric.needs == "confusion":
        return metric.evaluate(confusion).value
    if isinstance(metric, WeightedMetric):
        return metric.weighted(predictions, weights)
    return one_by_one(metric, predictions, weights)


def one_by_one(metric: SampleMetric, predictions: Predictions, weights: Floats) -> Floats:
    """A metric that takes no weights, on the drawn images themselves. weights [R, N] -> [R]."""
    images = np.arange(len(predictions.labels))
    drawn = (predictions.take(np.repeat(images, row.astype(np.int64))) for row in weights)
    return np.array([float(metric.evaluate(each).value) for each in drawn])


def permutation_baselines(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], *, seed: int = 0
) -> dict[str, float]:
    """label -> mean value of each gap when groups are permuted: what it would be if groups had no meaning."""
    gaps = [(each.label, each.value) for each in metrics if each.value.gap and each.value.needs == "confusion"]
    if not gaps:
        return {}
    draw = np.random.default_rng([seed, 0x9011])
    values: dict[str, list[Floats]] = {label: [] for label, _ in gaps}
    for count in chunk_sizes(PERMUTATIONS, len(predictions.labels) * len(predictions.group_names)):
        confusion = WeightedConfusion.of_permuted_groups(predictions, count, draw)
        for label, metric in gaps:
            if metric.needs == "confusion":
                values[label].append(metric.evaluate(confusion).value)
    return {label: _mean(np.concatenate(parts)) for label, parts in values.items()}


def _metric_value(
    rates: Rates, bounds: tuple[float, float], names: tuple[str, ...], permutation_baseline: float | None
) -> MetricValue:
    by_group = (
        {} if rates.by_group is None
        else {name: float(value) for name, value in zip(names, rates.by_group, strict=True)}
    )  # fmt: skip
    return MetricValue(
        value=float(rates.value), low=bounds[0], high=bounds[1], by_group=by_group,
        skipped=0 if rates.skipped is None else int(rates.skipped), permutation_baseline=permutation_baseline,
    )  # fmt: skip


def interval(spread: Floats, level: float = LEVEL, around: float | None = None) -> tuple[float, float]:
    """Percentile interval of replicates [replicates]; NaN where fewer than half of them have a value.

    around: the value of a gap. A gap cannot be negative, so that resampling noise inflates it: its replicates are
    centred on the value (and cut at 0), without which the interval of a small gap lies above the gap itself.
    """
    good = spread[np.isfinite(spread)]
    if around is not None and len(good):
        good = np.maximum(good - np.median(good) + around, 0.0)
    if len(good) * 2 < len(spread) or not len(good):
        return float("nan"), float("nan")
    low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def group_intervals(
    predictions: Predictions, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, tuple[float, float, float]]:
    """Accuracy of each group with its interval: name -> (value, low, high)."""
    right = predictions.predicted == predictions.labels
    groups = len(predictions.group_names)
    counts = np.stack([np.bincount(predictions.groups[right == flag], minlength=groups) for flag in (False, True)], 1)
    drawn = resample(counts.astype(np.float64), replicates, np.random.default_rng([seed, 0xB009]))
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction, spread = counts[:, 1] / counts.sum(1), drawn[..., 1] / drawn.sum(-1)
    return {
        name: (float(fraction[group]), *interval(spread[:, group]))
        for group, name in enumerate(predictions.group_names)
    }


def change_against(
    predictions: Predictions, baseline: Predictions, *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Change]:
    """Paired comparison on the same images, from the counts of (group, baseline right?, now right?, same answer?).

    accuracy: now minus baseline; flips: changed predictions; harmful_flips: newly misclassified. Fractions of images.
    """
    if not np.array_equal(predictions.labels, baseline.labels):
        raise UserError("the two predictions are not of the same images")
    groups = len(predictions.group_names)
    before, now = baseline.predicted == baseline.labels, predictions.predicted == predictions.labels
    same = baseline.predicted == predictions.predicted
    cell = ((predictions.groups * 2 + before) * 2 + now) * 2 + same
    counts = np.bincount(cell, minlength=groups * 8).reshape(groups, 2, 2, 2).astype(np.float64)
    drawn = resample(counts, replicates, np.random.default_rng([seed, 0xB00A]))
    changes = {}
    for name, fraction in {"accuracy": _accuracy_change, "flips": _flips, "harmful_flips": _harmful}.items():
        low, high = interval(fraction(drawn.sum(1)))
        by_group = {}
        for group, group_name in enumerate(predictions.group_names):
            group_low, group_high = interval(fraction(drawn[:, group]))
            by_group[group_name] = {"value": float(fraction(counts[group])), "low": group_low, "high": group_high}
        changes[name] = Change(float(fraction(counts.sum(0))), low, high, by_group)
    return changes


def _fraction(count: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction: Floats = count / counts.sum((-3, -2, -1))
    return fraction


def _accuracy_change(counts: Floats) -> Floats:
    return _fraction(counts[..., :, 1, :].sum((-2, -1)) - counts[..., 1, :, :].sum((-2, -1)), counts)


def _flips(counts: Floats) -> Floats:
    return _fraction(counts[..., 0].sum((-2, -1)), counts)


def _harmful(counts: Floats) -> Floats:
    return _fraction(counts[..., 1, 0, :].sum(-1), counts)


def _mean(values: Floats) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else float("nan")
