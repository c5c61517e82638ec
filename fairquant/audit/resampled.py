"""The evidence for limits of any metric: both models under the same bootstraps of the images, and what these cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.claims import ABSOLUTE, Claim
from fairquant.audit.confusion import WeightedConfusion, chunk_sizes, confusion_of, image_weights
from fairquant.audit.evaluate import REPLICATES, SAMPLE_REPLICATES, replicate
from fairquant.audit.evidence import Floats, Resampled
from fairquant.errors import UserError
from fairquant.roles import Predictions, Rates, WeightedMetric

#: Where there are more cells than this, one of each size in each group is struck, up to this size: in larger ones harm
#: beyond any usual limit does not go unseen.
MOST_CELLS, LARGEST = 200, 300


def resampled(claims: Sequence[Claim], after: Predictions, before: Predictions, seed: int) -> Resampled:
    """The evidence of M claims. Raises UserError where a metric has no values by group."""
    signs = np.array([-1.0 if claim.limit.kind in ("loss", "at least") else 1.0 for claim in claims])
    absolute = np.array([claim.limit.kind in ABSOLUTE for claim in claims])
    now = signs * np.array([_value(claim, after) for claim in claims])
    then = signs * np.array([_value(claim, before) for claim in claims])
    values = np.where(absolute, now, now - then) + 0.0
    limit = np.array([claim.limit.bound for claim in claims]) * np.where(absolute, signs, 1.0)
    room = np.where(absolute, np.abs(limit - now), limit)
    shares, sizes = _unseen(claims, after, now, signs, room)
    changed = after.predicted != before.predicted
    every = absolute | np.array([claim.metric.value.needs == "predictions" for claim in claims])
    return Resampled(
        values=values, error=_errors(claims, after, before, seed), limit=limit, harmless=np.where(absolute, limit, 0.0),
        images=np.array([float(claim.rows(after).sum()) for claim in claims]),
        changed=np.array([
            float((claim.rows(after) & (changed | every[row])).sum()) for row, claim in enumerate(claims)
        ]),
        shares=shares, sizes=sizes,
        left_out=np.array([float(max(_left_out(claim, after), _left_out(claim, before))) for claim in claims]),
    )  # fmt: skip


def _value(claim: Claim, predictions: Predictions) -> float:
    """The metric's value, overall or in the claim's group."""
    rates = _rates(claim, predictions)
    if np.shape(rates.value) != ():
        raise UserError(
            f"accept.{claim.limit.name}: {claim.metric.label} gave {np.shape(rates.value)} values for one model"
        )
    if claim.group is None:
        return float(rates.value)
    if rates.by_group is None:
        raise UserError(f"accept.{claim.limit.name}.by: {claim.metric.label} has no values by group")
    if np.shape(rates.by_group) != (len(predictions.group_names),):
        raise UserError(f"accept.{claim.limit.name}.by: {claim.metric.label} has not one value for each group")
    return float(np.asarray(rates.by_group)[claim.group])


def _left_out(claim: Claim, predictions: Predictions) -> int:
    """Cells that the metric leaves out for lack of images: of all images, or of those of the claim's group."""
    if claim.group is not None:
        own = predictions.take(np.flatnonzero(claim.rows(predictions)))
        name = (predictions.group_names[claim.group],)
        predictions = replace(own, groups=np.zeros_like(own.groups), group_names=name, reference=None)
        if not len(predictions.labels):
            return 0
    skipped = _rates(claim, predictions).skipped
    return 0 if skipped is None else int(skipped)


def _rates(claim: Claim, predictions: Predictions) -> Rates:
    metric = claim.metric.value
    return metric.evaluate(confusion_of(predictions)) if metric.needs == "confusion" else metric.evaluate(predictions)


def _unseen(
    claims: Sequence[Claim], after: Predictions, now: Floats, signs: Floats, room: Floats
) -> tuple[Floats, Floats]:
    """shares, sizes [M, S] of `Resampled`: what it does to each claim's metric if more and more images of a part were
    misclassified. room [M]: what is left up to the limit."""
    parts = _parts(after)
    shares, sizes = np.ones((len(claims), len(parts))), np.zeros((len(claims), len(parts)))
    for part, members in enumerate(parts):
        sizes[:, part] = [float((claim.rows(after)[members]).sum()) for claim in claims]
        counts = np.unique(np.minimum(2 ** np.arange(len(members).bit_length() + 1), len(members)))
        for count in counts[::-1]:
            struck = _misclassified(after, members[:count])
            harm = np.array([signs[row] * _value(claim, struck) for row, claim in enumerate(claims)]) - now
            reached = harm > room
            shares[reached, part] = count / len(members) * room[reached] / harm[reached]
            if not reached.any():
                break
    return shares, sizes


def _parts(predictions: Predictions) -> list[NDArray[np.int64]]:
    """What harm may strike, as images in a random order: each group, each class, and each class in a group (see MOST_CELLS)."""
    order = np.random.default_rng(0).permutation(len(predictions.labels))
    cells = predictions.labels * len(predictions.group_names) + predictions.groups
    parts = [
        order[kind[order] == number] for kind in (predictions.groups, predictions.labels) for number in np.unique(kind)
    ]
    numbers, sizes = np.unique(cells, return_counts=True)
    if len(numbers) > MOST_CELLS:
        small = np.flatnonzero(sizes <= LARGEST)
        kept = np.stack([numbers[small] % len(predictions.group_names), sizes[small]])
        _, first = np.unique(kept, axis=1, return_index=True)
        numbers = numbers[small[first]]
    return [*parts, *(order[cells[order] == number] for number in numbers)]


def _misclassified(predictions: Predictions, rows: NDArray[np.int64]) -> Predictions:
    """The predictions with these images wrong: the logit of the true class exchanged with the largest of the others."""
    logits = predictions.logits.copy()
    found = rows[predictions.predicted[rows] == predictions.labels[rows]]
    right = predictions.labels[found]
    wrong = np.where(np.arange(logits.shape[1]) == right[:, None], -np.inf, logits[found]).argmax(1)
    logits[found, right], logits[found, wrong] = predictions.logits[found, wrong], predictions.logits[found, right]
    return replace(predictions, logits=logits)


def _errors(claims: Sequence[Claim], after: Predictions, before: Predictions, seed: int) -> Floats:
    """Standard error of each claim's value [M]: of the difference between both models, or of this one's own; NaN where most
    replicates have none."""
    draw, drawn = np.random.default_rng([seed, 0xACCE]), 0
    samples: list[list[Floats]] = [[] for _ in claims]
    for count in chunk_sizes(REPLICATES, len(after.labels)):
        weights = image_weights(len(after.labels), count, draw)
        tables = [WeightedConfusion(each, weights) for each in (after, before)]
        for place, claim in enumerate(claims):
            metric = claim.metric.value
            is_slow = metric.needs == "predictions" and not isinstance(metric, WeightedMetric)
            rows = weights[: max(SAMPLE_REPLICATES - drawn, 0)] if is_slow else weights
            if len(rows):
                now, then = (
                    _replicates(claim, each, table, rows) for each, table in zip((after, before), tables, strict=True)
                )
                samples[place].append(now if claim.limit.kind in ABSOLUTE else now - then)
        drawn += count
    return np.array([_deviation(np.concatenate(parts)) for parts in samples])


def _deviation(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.std()) if len(known) and len(known) * 2 >= len(values) else float("nan")


def _replicates(claim: Claim, predictions: Predictions, confusion: WeightedConfusion, weights: Floats) -> Floats:
    """The metric under R rows of image weights [R, N] -> [R], overall or in the claim's group."""
    metric = claim.metric.value
    if claim.group is None:
        return replicate(claim.metric, predictions, confusion, weights)
    if metric.needs == "confusion":
        by_group = metric.evaluate(confusion).by_group
        assert by_group is not None  # the value itself has been looked at before
        return np.asarray(by_group)[..., claim.group]
    return replicate(claim.metric, predictions, confusion, weights * claim.rows(predictions))
