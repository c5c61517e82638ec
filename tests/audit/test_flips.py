"""Images whose answer changed: which, of what kind, and in which order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from helpers.predictions import two_models

from fairquant.audit.flips import flips_of, harmful_first
from fairquant.roles import OperatingPoint, Predictions


def answered(rows: list[list[float]], labels: list[int]) -> Predictions:
    return Predictions(
        logits=np.log(np.array(rows)).astype(np.float32), labels=np.array(labels), groups=np.array([0, 1, 0, 1]),
        group_names=("a", "b"), class_names=("x", "y", "z"), ids=("one", "two", "three", "four"),
    )  # fmt: skip


def test_every_changed_answer_with_both_probabilities_the_surest_first():
    labels = [0, 1, 2, 0]
    before = answered([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]], labels)
    after = answered([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]], labels)
    flips = flips_of(before, after)
    assert [(flip.id, flip.kind) for flip in flips] == [
        ("two", "newly right"),
        ("one", "newly wrong"),
        ("three", "wrong otherwise"),
    ]
    first = flips[0]
    assert (first.row, first.group, first.label, first.before, first.after) == (1, "b", "y", "x", "y")
    assert np.allclose([first.probability_before, first.probability_after], [0.7, 0.8], atol=1e-6)


def test_equal_answers_leave_nothing_and_images_without_names_are_numbered():
    rows = [[0.6, 0.3, 0.1]] * 4
    same = answered(rows, [0, 0, 1, 2])
    assert flips_of(same, same) == []
    unnamed = Predictions(
        logits=same.logits[:, ::-1].copy(), labels=same.labels, groups=same.groups, group_names=same.group_names,
        class_names=same.class_names,
    )  # fmt: skip
    assert [flip.id for flip in flips_of(same, unnamed)] == ["0", "1", "2", "3"]


def test_decisions_that_changed_are_listed_although_the_class_did_not():
    before, after = two_models()
    classes = (0,)
    scores = after.score(classes)
    before = replace(before, logits=after.logits, operating=OperatingPoint(classes, float(np.quantile(scores, 0.3))))
    after = replace(after, operating=OperatingPoint(classes, float(np.quantile(scores, 0.7))))
    flips = flips_of(before, after)
    was, now = scores >= before.operating.threshold, scores >= after.operating.threshold
    positive = after.labels == 0
    assert {flip.row for flip in flips if flip.decision == "newly missed"} == set(np.flatnonzero(positive & was & ~now))
    assert {flip.row for flip in flips if flip.decision == "newly cleared"} == set(
        np.flatnonzero(~positive & was & ~now)
    )
    assert all(flip.kind == "same class" for flip in flips)
    assert [flip.decision for flip in harmful_first(flips)] == ["newly missed"] * int((positive & was & ~now).sum())
