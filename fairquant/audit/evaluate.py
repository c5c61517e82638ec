"""From predictions to numbers with intervals: every metric, and what changed against full precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.confusion import WeighedConfusion, confusion_tensor, image_weights, in_parts, resample
from fairquant.errors import UserError
from fairquant.roles import Confusion, MetricValue, Predictions, Rates

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
    metrics: Sequence[Any],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Audit:
    """metrics: components with `label` and `value` (the metric). Both predictions are on the same images."""
    counts = np.bincount(predictions.groups, minlength=len(predictions.group_names))
    return Audit(
        evaluate(predictions, metrics, seed=seed, replicates=replicates),
        evaluate(baseline, metrics, seed=seed, replicates=replicates),
        change_against(predictions, baseline, seed=seed, replicates=replicates),
        {name: int(count) for name, count in zip(predictions.group_names, counts, strict=True)},
    )


def evaluate(
    predictions: Predictions, metrics: Sequence[Any], *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, MetricValue]:
    """Every metric with its percentile interval; gaps also with their null floor. Raises UserError on no images."""
    if not len(predictions.labels):
        raise UserError("there are no images to audit")
    table = Confusion(confusion_tensor(predictions))
    spreads = _replicates(predictions, metrics, seed, replicates)
    nulls = null_floors(predictions, metrics, seed=seed)
    found = {}
    for component in metrics:
        metric, label = component.value, component.label
        rates = metric.evaluate(table if metric.needs == "confusion" else predictions)
        found[label] = _metric_value(rates, spreads[label], predictions.group_names, nulls.get(label), metric.gap)
    return found


def _replicates(predictions: Predictions, metrics: Sequence[Any], seed: int, replicates: int) -> dict[str, Floats]:
    """Every metric under bootstraps of the images: label -> [replicates], fewer where it cannot take image weights."""
    draw = np.random.default_rng([seed, 0xB007])
    values: dict[str, list[Floats]] = {component.label: [] for component in metrics}
    done = 0
    for part in in_parts(replicates, len(predictions.labels)):
        weights = image_weights(len(predictions.labels), part, draw)
        confusion = WeighedConfusion(predictions, weights)
        for component in metrics:
            metric = component.value
            if metric.needs == "confusion":
                values[component.label].append(metric.evaluate(confusion).value)
            elif hasattr(metric, "weighted"):
                values[component.label].append(metric.weighted(predictions, weights))
            elif done < SAMPLE_REPLICATES:
                values[component.label].append(one_by_one(metric, predictions, weights[: SAMPLE_REPLICATES - done]))
        done += part
    return {label: np.concatenate(parts) for label, parts in values.items()}


def one_by_one(metric: Any, predictions: Predictions, weights: Floats) -> Floats:
    """A metric that takes no weights, on the drawn images themselves [R]."""
    images = np.arange(len(predictions.labels))
    drawn = (predictions.take(np.repeat(images, row.astype(np.int64))) for row in weights)
    return np.array([float(metric.evaluate(each).value) for each in drawn])


def null_floors(predictions: Predictions, metrics: Sequence[Any], *, seed: int = 0) -> dict[str, float]:
    """label -> mean value of each gap when groups are permuted: what it would be if groups meant nothing."""
    gaps = [component for component in metrics if component.value.gap and component.value.needs == "confusion"]
    if not gaps:
        return {}
    draw = np.random.default_rng([seed, 0x9011])
    values: dict[str, list[Floats]] = {component.label: [] for component in gaps}
    for part in in_parts(PERMUTATIONS, len(predictions.labels) * len(predictions.group_names)):
        confusion = WeighedConfusion.of_permuted_groups(predictions, part, draw)
        for component in gaps:
            values[component.label].append(component.value.evaluate(confusion).value)
    return {label: _mean(np.concatenate(parts)) for label, parts in values.items()}


def _metric_value(rates: Rates, spread: Floats, names: tuple[str, ...], null: float | None, gap: bool) -> MetricValue:
    value = float(rates.value)
    low, high = interval(spread, around=value if gap else None)
    by_group = (
        {} if rates.by_group is None
        else {name: float(value) for name, value in zip(names, rates.by_group, strict=True)}
    )  # fmt: skip
    skipped = 0 if rates.skipped is None else int(rates.skipped)
    return MetricValue(value, low, high, by_group, skipped, null)


def interval(spread: Floats, level: float = LEVEL, around: float | None = None) -> tuple[float, float]:
    """Percentile interval of replicates; NaN where fewer than half of them have a value.

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
        share, spread = counts[:, 1] / counts.sum(1), drawn[..., 1] / drawn.sum(-1)
    return {
        name: (float(share[group]), *interval(spread[:, group])) for group, name in enumerate(predictions.group_names)
    }


def change_against(
    predictions: Predictions, baseline: Predictions, *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Change]:
    """Paired comparison on the same images, from the counts of (group, baseline right?, now right?, same answer?).

    accuracy: now minus baseline; flips: answers that changed; harmful_flips: right before, wrong now. Shares of images.
    """
    if not np.array_equal(predictions.labels, baseline.labels):
        raise UserError("the two predictions are not of the same images")
    groups = len(predictions.group_names)
    before, now = baseline.predicted == baseline.labels, predictions.predicted == predictions.labels
    same = baseline.predicted == predictions.predicted
    cell = ((predictions.groups * 2 + before) * 2 + now) * 2 + same
    counts = np.bincount(cell, minlength=groups * 8).reshape(groups, 2, 2, 2).astype(np.float64)
    drawn = resample(counts, replicates, np.random.default_rng([seed, 0xB00A]))
    found = {}
    for name, share in {"accuracy": _accuracy_change, "flips": _flips, "harmful_flips": _harmful}.items():
        low, high = interval(share(drawn.sum(1)))
        by_group = {}
        for group, group_name in enumerate(predictions.group_names):
            group_low, group_high = interval(share(drawn[:, group]))
            by_group[group_name] = {"value": float(share(counts[group])), "low": group_low, "high": group_high}
        found[name] = Change(float(share(counts.sum(0))), low, high, by_group)
    return found


def _share(part: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Floats = part / counts.sum((-3, -2, -1))
    return share


def _accuracy_change(counts: Floats) -> Floats:
    return _share(counts[..., :, 1, :].sum((-2, -1)) - counts[..., 1, :, :].sum((-2, -1)), counts)


def _flips(counts: Floats) -> Floats:
    return _share(counts[..., 0].sum((-2, -1)), counts)


def _harmful(counts: Floats) -> Floats:
    return _share(counts[..., 1, 0, :].sum(-1), counts)


def _mean(values: Floats) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else float("nan")
