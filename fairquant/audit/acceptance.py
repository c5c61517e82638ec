"""May it be shipped? Every limit of the recipe as a test of non-inferiority, with three answers and the error held over all.

PASS: a loss as large as the limit is excluded. FAIL: the loss is beyond the limit, and is not chance. CANNOT TELL: too few
images for either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fairquant.audit.claims import ABSOLUTE, Claim, claims_of
from fairquant.audit.evaluate import check_numbers
from fairquant.audit.evidence import Evidence, PairedProportions, Proportions, Resampled, more_images
from fairquant.audit.holm import holm
from fairquant.audit.resampled import resampled
from fairquant.errors import UserError
from fairquant.recipe.events import AcceptReport, Answer, LimitReport
from fairquant.recipe.schema import Limit
from fairquant.roles import Predictions, ProportionMetric

Rows = NDArray[np.bool_]
ORDER: tuple[Answer, ...] = ("FAIL", "CANNOT TELL", "PASS")


def acceptance(
    after: Predictions, before: Predictions, limits: Sequence[Limit], file_bytes: int | None = None, *, seed: int = 0,
) -> AcceptReport:  # fmt: skip
    """The answer to every limit, those that fail first. before: the full-precision model on the same images; file_bytes: size of
    the file that ships, where it is known.

    The tests are one-sided. Over all limits together, the probability that any is said to be kept although it is not is at
    most LEVEL, and so is the probability that any is said to be broken although nothing changed (Holm, see `holm`).
    Raises UserError where a metric has no values by group.
    """
    check_numbers(after, before)
    after = after if after.reference is not None else replace(after, reference=before)
    claims = claims_of(limits, after)
    parts = _evidence(claims, after, before, seed)
    judged = _judge(claims, parts)
    if file_bytes is not None:
        judged += [_file(limit, file_bytes) for limit in limits if limit.metric is None]
    judged.sort(key=lambda report: ORDER.index(report["answer"]))
    return {"answer": judged[0]["answer"] if judged else "CANNOT TELL", "limits": judged}


def _file(limit: Limit, file_bytes: int) -> LimitReport:
    return {
        "name": "file size in bytes", "kind": "at most", "limit": limit.bound, "value": file_bytes, "low": file_bytes,
        "high": file_bytes, "answer": "PASS" if file_bytes <= limit.bound else "FAIL", "images": 0, "more_images": None,
        "left_out": 0,
    }  # fmt: skip


def _judge(claims: Sequence[Claim], parts: Sequence[tuple[list[int], Evidence]]) -> list[LimitReport]:
    """The joint tests, then one report for each claim, in their order. parts: numbers of claims, and the evidence of these."""
    if not claims:
        return []
    kept, broken, smallest, images = (np.ones(len(claims)) for _ in range(4))
    for rows, evidence in parts:
        kept[rows], broken[rows], smallest[rows] = evidence.p_kept(), evidence.p_broken(), evidence.smallest()
        images[rows] = evidence.images
    passes, fails = holm(kept, smallest=np.where(images > 0, 0.0, 1.0)), holm(broken, smallest=smallest)
    reports: dict[int, LimitReport] = {}
    for rows, evidence in parts:
        low, high = evidence.ends(fails.level, passes.level)
        more = more_images(evidence, passes.level, fails.level)
        for place, row in enumerate(rows):
            beyond = bool(evidence.value[place] > evidence.limit[place])
            answer: Answer = (
                "PASS" if passes.rejected[row] else "FAIL" if beyond and fails.rejected[row] else "CANNOT TELL"
            )
            reports[row] = _report(claims[row], evidence, place, (low[place], high[place]), answer)
            if answer == "CANNOT TELL" and np.isfinite(more[place]):
                reports[row]["more_images"] = int(more[place])
    return [reports[row] for row in range(len(claims))]


def _report(claim: Claim, evidence: Evidence, place: int, ends: tuple[float, float], answer: Answer) -> LimitReport:
    """One claim as report.json has it: absolute limits with the metric's own value, not the one that was tested."""
    value, (low, high) = float(evidence.value[place]), ends
    if claim.limit.kind in ABSOLUTE:
        value, low, high = _own(claim, evidence, value), _own(claim, evidence, low), _own(claim, evidence, high)
        low, high = min(low, high), max(low, high)
    return {
        "name": claim.name, "kind": claim.limit.kind, "limit": claim.limit.bound, "value": _finite(value), "low": _finite(low),
        "high": _finite(high), "answer": answer, "images": int(evidence.images[place]), "more_images": None,
        "left_out": int(evidence.left_out[place]) if isinstance(evidence, Resampled) else 0,
    }  # fmt: skip


def _own(claim: Claim, evidence: Evidence, value: float) -> float:
    """The metric's value behind the one that is tested, which is larger where it is worse."""
    if isinstance(evidence, Proportions):
        return 1 - value
    return -value if claim.limit.kind == "at least" else value


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _evidence(
    claims: Sequence[Claim], after: Predictions, before: Predictions, seed: int
) -> list[tuple[list[int], Evidence]]:
    """Claims by the kind of their evidence: numbers of the claims, and what the images say of them."""
    counts: dict[bool, tuple[list[int], list[tuple[float, ...]]]] = {True: ([], []), False: ([], [])}
    others: list[int] = []
    for number, claim in enumerate(claims):
        row = _counts(claim, after, before)
        if row is None:
            others.append(number)
            continue
        rows, table = counts[claim.limit.kind in ABSOLUTE]
        rows.append(number)
        table.append(row)
    parts: list[tuple[list[int], Evidence]] = []
    for absolute, (rows, table) in counts.items():
        if rows:
            first, second, images, limit = np.array(table, np.float64).T
            of_fractions: Evidence = (
                Proportions(wrong=first, images=images, limit=limit)
                if absolute
                else PairedProportions(lost=first, gained=second, images=images, limit=limit)
            )
            parts.append((rows, of_fractions))
    if others:
        parts.append((others, resampled([claims[number] for number in others], after, before, seed)))
    return parts


def _checked(claim: Claim, counted: tuple[Rows, Rows] | None, images: int) -> tuple[Rows, Rows] | None:
    """What a metric counted, which may be a stranger's. UserError unless it is two rows of true and false, one for each image."""
    if counted is None:
        return None
    for rows in counted:
        if np.shape(rows) != (images,) or np.asarray(rows).dtype != bool:
            raise UserError(
                f"accept.{claim.limit.name}: counted() of {claim.metric.label} must give two arrays of true and false, one entry "
                f"for each of the {images} images; got {np.asarray(rows).dtype} {np.shape(rows)}"
            )
    return counted


def _counts(claim: Claim, after: Predictions, before: Predictions) -> tuple[float, ...] | None:
    """(lost, gained, images, limit) of a paired fraction, (wrong, 0, images, limit) of an absolute one; None for other metrics."""
    metric = claim.metric.value
    if not isinstance(metric, ProportionMetric) or claim.limit.kind in ("rise", "at most"):
        return None
    now, then = (_checked(claim, metric.counted(each), len(each.labels)) for each in (after, before))
    if now is None or then is None or not np.array_equal(now[0], then[0]):
        return None
    counted = now[0] & claim.rows(after)
    right, was_right = now[1][counted], then[1][counted]
    if claim.limit.kind in ABSOLUTE:
        return float((~right).sum()), 0.0, float(counted.sum()), 1 - claim.limit.bound
    return float((was_right & ~right).sum()), float((right & ~was_right).sum()), float(counted.sum()), claim.limit.bound
