"""From predictions to numbers with intervals: every metric, and what changed against full precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.cells import Cells, cells_of
from fairquant.audit.change import Change, change_against
from fairquant.audit.confusion import PermutedConfusion, WeightedConfusion, chunk_sizes, confusion_of, image_weights
from fairquant.audit.paired import wilson
from fairquant.errors import UserError
from fairquant.recipe.schema import Component
from fairquant.roles import (
    AnyMetric,
    Confusion,
    MetricValue,
    Predictions,
    ProportionMetric,
    Rates,
    SampleMetric,
    WeightedMetric,
)

Floats = NDArray[np.float64]
REPLICATES, SAMPLE_REPLICATES, PERMUTATIONS, LEVEL = 1_000, 300, 200, 0.95


@dataclass(frozen=True)
class Audit:
    """metrics and baseline: label -> MetricValue; change: accuracy, flips, harmful_flips against the baseline; cells: the rates
    of every class for everyone; images: group -> number."""

    metrics: dict[str, MetricValue]
    baseline: dict[str, MetricValue]
    change: dict[str, Change]
    images: dict[str, int]
    cells: Cells


def audit(
    predictions: Predictions,
    baseline: Predictions,
    metrics: Sequence[Component[AnyMetric]],
    *,
    attributes: Sequence[str] = (),
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Audit:
    """Every metric of both predictions, which are on the same images, and what changed between them. attributes: names of those
    whose intersections the groups are."""
    if not np.array_equal(predictions.labels, baseline.labels):
        raise UserError("the two predictions are not of the same images")
    counts = np.bincount(predictions.groups, minlength=len(predictions.group_names))
    return Audit(
        *evaluate_pair(predictions, baseline, metrics, seed=seed, replicates=replicates),
        change_against(predictions, baseline),
        {name: int(count) for name, count in zip(predictions.group_names, counts, strict=True)},
        cells_of(predictions, baseline, attributes),
    )


def evaluate(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], *, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, MetricValue]:
    """Every metric with its interval (Wilson's of fractions of images, else percentiles of the bootstrap); gaps also with their
    permutation baseline. Raises UserError on no images."""
    if not len(predictions.labels):
        raise UserError("there are no images to audit")
    spreads = _replicates([predictions], metrics, seed, replicates)[0]
    return _values(predictions, metrics, spreads, permutation_baselines(predictions, metrics, seed=seed))


def check_numbers(*models: Predictions) -> None:
    """UserError where a model's answers are not numbers, or two classes or groups have one name: no audit would be of anything."""
    for each in models:
        bad = int((~np.isfinite(each.logits).all(1)).sum())
        if bad:
            raise UserError(f"the model's answers to {bad} of {len(each.labels)} images are not finite numbers")
        for what, names in (("class", each.class_names), ("group", each.group_names)):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise UserError(f"two {what} names are equal: {twice!r}. Give each its own")


def evaluate_pair(
    predictions: Predictions,
    baseline: Predictions,
    metrics: Sequence[Component[AnyMetric]],
    *,
    seed: int,
    replicates: int,
) -> tuple[dict[str, MetricValue], dict[str, MetricValue]]:
    """`evaluate` of both models on the same images, which are drawn once for both; the baseline's gaps without permutation
    baselines."""
    if not len(predictions.labels):
        raise UserError("there are no images to audit")
    check_numbers(predictions, baseline)
    now, then = _replicates([predictions, baseline], metrics, seed, replicates)
    by_chance = permutation_baselines(predictions, metrics, seed=seed)
    return _values(predictions, metrics, now, by_chance), _values(baseline, metrics, then, {})


def _values(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], spreads: Mapping[str, Floats],
    baselines: Mapping[str, float],
) -> dict[str, MetricValue]:  # fmt: skip
    """label -> value, from its replicates [replicates] and, for gaps, its permutation baseline."""
    table = confusion_of(predictions)
    values = {}
    for component in metrics:
        metric, label = component.value, component.label
        rates = metric.evaluate(table) if metric.needs == "confusion" else metric.evaluate(predictions)
        _check_rates(rates, label, len(predictions.group_names))
        bounds = _of_counts(metric, predictions) or interval(
            spreads[label], around=float(rates.value) if metric.gap else None
        )
        values[label] = _metric_value(rates, bounds, predictions.group_names, baselines.get(label))
    return values


def _check_rates(rates: object, label: str, groups: int) -> None:
    """UserError where a metric, which may be a stranger's, returns something else than numbers in a Rates."""
    if not isinstance(rates, Rates):
        raise UserError(f"metric {label!r} returned {type(rates).__name__}, Rates are wanted")
    for what, value, shape in (
        ("value", rates.value, ()),
        ("by_group", rates.by_group, (groups,)),
        ("skipped", rates.skipped, ()),
    ):
        if value is None and what != "value":
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise UserError(f"metric {label!r} returned {value!r} as {what}, which is no number")
        if array.size != int(np.prod(shape)):
            raise UserError(f"metric {label!r} returned {what} of shape {array.shape}, {shape} wanted")


def _of_counts(metric: AnyMetric, predictions: Predictions) -> tuple[float, float] | None:
    """Wilson's interval where the metric is a fraction of images, of which a bootstrap of few knows too little."""
    counted = metric.counted(predictions) if isinstance(metric, ProportionMetric) else None
    if counted is None:
        return None
    rows, right = counted
    low, high = wilson(np.array([(rows & right).sum()], np.float64), np.array([rows.sum()], np.float64), LEVEL)
    return float(low[0]), float(high[0])


def _replicates(
    models: Sequence[Predictions], metrics: Sequence[Component[AnyMetric]], seed: int, replicates: int
) -> list[dict[str, Floats]]:
    """Every metric of each model, on the same images, under the same bootstraps of these: label -> [replicates], fewer where it
    cannot take image weights."""
    draw, done, images = np.random.default_rng([seed, 0xB007]), 0, len(models[0].labels)
    values: list[dict[str, list[Floats]]] = [{component.label: [] for component in metrics} for _ in models]
    for count in chunk_sizes(replicates, images):
        weights = image_weights(images, count, draw)
        first = WeightedConfusion(models[0], weights)
        for place, model in enumerate(models):
            confusion = first if place == 0 else first.of_model(model)
            for component in metrics:
                metric = component.value
                is_slow = metric.needs == "predictions" and not isinstance(metric, WeightedMetric)
                rows = weights[: max(SAMPLE_REPLICATES - done, 0)] if is_slow else weights
                if len(rows):
                    values[place][component.label].append(replicate(component, model, confusion, rows))
        done += count
    return [{label: np.concatenate(parts) for label, parts in own.items()} for own in values]


def replicate(
    component: Component[AnyMetric], predictions: Predictions, confusion: Confusion, weights: Floats
) -> Floats:
    """A metric under R rows of image weights [R, N], of which `confusion` is the confusion -> [R]. UserError where a metric, which
    may be a stranger's, gives something else."""
    metric, values = component.value, None
    if metric.needs == "confusion":
        rates: object = metric.evaluate(confusion)
        values = rates.value if isinstance(rates, Rates) else rates
    elif isinstance(metric, WeightedMetric):
        values = metric.weighted(predictions, weights)
    else:
        return one_by_one(metric, component.label, predictions, weights)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.shape != (len(weights),):
        shown = f"{array.dtype} {array.shape}" if array.dtype.kind in "fiubc" else repr(values)[:80]
        raise UserError(
            f"metric {component.label!r} gave {shown} for {len(weights)} replicates, one number for each is wanted"
            + (", as in Rates(value [R], by_group [R, G])" if metric.needs == "confusion" else "")
        )
    return array


def one_by_one(metric: SampleMetric, label: str, predictions: Predictions, weights: Floats) -> Floats:
    """A metric that takes no weights, on the drawn images themselves. weights [R, N] -> [R]."""
    images, values = np.arange(len(predictions.labels)), []
    for row in weights:
        drawn = predictions.take(np.repeat(images, row.astype(np.int64)))
        rates = metric.evaluate(drawn)
        _check_rates(rates, label, len(predictions.group_names))
        values.append(float(rates.value))
    return np.array(values)


def permutation_baselines(
    predictions: Predictions, metrics: Sequence[Component[AnyMetric]], *, seed: int = 0
) -> dict[str, float]:
    """label -> mean value of each gap when groups are permuted: what it would be if groups had no meaning."""
    gaps = [(each.label, each.value) for each in metrics if each.value.gap and each.value.needs == "confusion"]
    if not gaps:
        return {}
    draw = np.random.default_rng([seed, 0x9011])
    values: dict[str, list[Floats]] = {label: [] for label, _ in gaps}
    for count in chunk_sizes(PERMUTATIONS, len(predictions.labels)):
        confusion = PermutedConfusion.draw(predictions, count, draw)
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


def _mean(values: Floats) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else float("nan")
