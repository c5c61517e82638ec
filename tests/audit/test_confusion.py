"""Confusion tensors, resampled, weighted and with permuted groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.predictions import random_predictions

from fairquant.audit.confusion import (
    PermutedConfusion,
    WeightedConfusion,
    chunk_sizes,
    confusion_of,
    confusion_tensor,
    image_weights,
)
from fairquant.roles import Confusion


def test_the_bootstrap_of_the_tensor_is_the_bootstrap_of_the_images():
    p = random_predictions(count=300)
    drawn = WeightedConfusion(p, image_weights(300, 4000, np.random.default_rng(1))).table
    assert (drawn.sum((1, 2, 3)) == 300).all()
    accuracy = np.trace(drawn, axis1=2, axis2=3).sum(1) / 300
    right = (p.predicted == p.labels).astype(float)
    draw = np.random.default_rng(2)
    images = np.array([right[draw.integers(0, 300, 300)].mean() for _ in range(4000)])
    assert accuracy.mean() == pytest.approx(images.mean(), abs=0.003)
    assert accuracy.std() == pytest.approx(images.std(), rel=0.06)


def test_sums_under_weights_are_those_of_the_drawn_images():
    p = random_predictions(90, classes=5, groups=3)
    weights = image_weights(90, 7, np.random.default_rng(3))
    weighted = WeightedConfusion(p, weights)
    for row, table in zip(weights, weighted.table, strict=True):
        drawn = Confusion(confusion_tensor(p.take(np.repeat(np.arange(90), row.astype(int)))))
        assert np.array_equal(table, drawn.table)
    plain = Confusion(weighted.table)
    for name in ("hits", "truth", "predicted", "images"):
        assert np.array_equal(getattr(weighted, name), getattr(plain, name)), name


def test_permuted_groups_keep_the_sizes_of_groups_and_the_confusion_of_all():
    p = random_predictions(90, classes=5, groups=3)
    shuffled = PermutedConfusion.draw(p, 6, np.random.default_rng(4))
    table = confusion_tensor(p)
    assert np.array_equal(shuffled.table.sum(1), np.broadcast_to(table.sum(0), (6, 5, 5)))
    assert np.array_equal(shuffled.images, np.broadcast_to(table.sum((1, 2)), (6, 3)))
    assert not np.array_equal(shuffled.truth[0], shuffled.truth[1])
    plain = Confusion(shuffled.table)
    for name in ("hits", "truth", "predicted"):
        assert np.array_equal(getattr(shuffled, name), getattr(plain, name)), name


def test_every_image_is_in_its_cell():
    p = random_predictions(60)
    table = confusion_tensor(p)
    for row in range(60):
        table[p.groups[row], p.labels[row], p.predicted[row]] -= 1
    assert (table == 0).all()


def test_weights_draw_as_many_images_as_there_are():
    weights = image_weights(50, 200, np.random.default_rng(0))
    assert (weights.sum(1) == 50).all()
    assert weights.mean(0) == pytest.approx(np.ones(50), abs=0.35)


@pytest.mark.parametrize(("total", "cells"), [(1000, 150), (7, 10**9), (300, 0), (1000, 400_000)])
def test_chunks_add_up_and_each_stays_small(total, cells):
    sizes = chunk_sizes(total, cells)
    assert sum(sizes) == total
    assert all(size == 1 or size * cells <= 400_000 for size in sizes)


def test_the_full_precision_models_counts_are_under_the_same_weights():
    p, before = random_predictions(90, seed=1), random_predictions(90, seed=2)
    before = replace(before, labels=p.labels, groups=p.groups)
    both = replace(p, reference=before)
    assert np.array_equal(confusion_of(both).reference.table, confusion_tensor(before))
    weights = image_weights(90, 4, np.random.default_rng(5))
    beside = WeightedConfusion(both, weights).reference
    assert np.array_equal(beside.table, WeightedConfusion(before, weights).table)
    assert np.array_equal(beside.truth, WeightedConfusion(p, weights).truth)


def test_the_full_precision_models_counts_are_under_the_same_permutations():
    p, before = random_predictions(90, seed=1), random_predictions(90, seed=2)
    before = replace(before, labels=p.labels, groups=p.groups)
    shuffled = PermutedConfusion.draw(replace(p, reference=before), 4, np.random.default_rng(5))
    alone = PermutedConfusion.draw(before, 4, np.random.default_rng(5))
    assert np.array_equal(shuffled.truth, alone.truth)
    assert np.array_equal(shuffled.reference.hits, alone.hits)
    assert not np.array_equal(shuffled.hits, alone.hits)


def test_no_images_are_no_counts():
    none = random_predictions(9).take(np.arange(0))
    assert (WeightedConfusion(none, np.zeros((5, 0))).table == np.zeros((5, 3, 4, 4))).all()
