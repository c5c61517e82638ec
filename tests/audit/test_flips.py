"""Images whose answer changed: which, of what kind, and in which order."""

from __future__ import annotations

import numpy as np

from fairquant.audit.flips import flips_of
from fairquant.roles import Predictions


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
