"""Ranges of activations: what each rule keeps, that no group is clipped more than it allows, and that nothing piles up."""

from __future__ import annotations

import numpy as np
import pytest

from fairquant.errors import UserError
from fairquant.export.ranges import KEPT, Calibration, find_ranges

RULES = ("minmax", "percentile", "entropy")


def two_groups(count: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of two groups, one in eight with values ten times as large."""
    draw = np.random.default_rng(seed)
    groups = (np.arange(count) % 8 == 0).astype(np.int64)
    images = draw.normal(size=(count, 3, 24, 24)).astype(np.float32) * np.where(groups, 10, 1)[:, None, None, None]
    return images.astype(np.float32), groups


def run(images: np.ndarray) -> list[np.ndarray]:
    return [images, np.maximum(images, 0), images.sum((1, 2))]


def calibration(images: np.ndarray, groups: np.ndarray, size: int) -> Calibration:
    parts = range(0, len(images), size)
    return Calibration([images[p : p + size] for p in parts], [groups[p : p + size] for p in parts], ("many", "few"))


@pytest.mark.parametrize("method", RULES)
def test_ranges_do_not_depend_on_how_images_are_batched(method):
    images, groups = two_groups()
    one, other = (find_ranges(run, "abc", calibration(images, groups, size), method) for size in (64, 7))
    assert one.bounds == other.bounds
    assert one.clipped == other.clipped


def test_minmax_covers_everything_and_percentile_what_it_says():
    images, groups = two_groups()
    every = find_ranges(run, "abc", calibration(images, groups, 16), "minmax")
    assert every.clipped == {"many": (0.0, 0.0), "few": (0.0, 0.0)}
    assert every.bounds["a"] == pytest.approx((images.min(), images.max()), rel=1e-3)
    assert every.bounds["b"][0] == 0.0
    most = find_ranges(run, "abc", calibration(images, groups, 16), "percentile", "all")
    low, high = most.bounds["a"]
    fraction = ((images < low) | (images > high)).mean()
    assert 0 < fraction <= (1 - KEPT) * 1.5


def test_no_group_is_clipped_more_than_the_rule_allows_though_it_is_where_all_images_count_equally():
    images, groups = two_groups(512)
    pooled = find_ranges(run, "abc", calibration(images, groups, 64), "percentile", "all")
    each = find_ranges(run, "abc", calibration(images, groups, 64), "percentile", "groups")
    assert pooled.clipped["few"][1] > 3 * (1 - KEPT)
    for _, worst in each.clipped.values():
        assert worst <= (1 - KEPT) * 1.01
    low, high = pooled.bounds["a"]
    outside = (images < low) | (images > high)
    assert pooled.clipped["few"][0] > 0
    worst_of_first = outside[groups == 1].mean()
    assert pooled.clipped["few"][1] >= worst_of_first * 0.8


def test_entropy_cuts_a_lone_outlier_off_and_keeps_the_bulk():
    images = np.random.default_rng(2).normal(size=(16, 3, 32, 32)).astype(np.float32)
    images[0, 0, 0, 0] = 100.0
    ranges = find_ranges(lambda values: [values], "a", Calibration([images]), "entropy")
    assert 3.0 < ranges.bounds["a"][1] < 50.0


def test_a_constant_tensor_has_a_range_and_values_that_are_not_finite_are_refused():
    images = np.ones((4, 3, 2, 2), np.float32)
    ranges = find_ranges(lambda values: [values * 0], "a", Calibration([images]), "percentile")
    low, high = ranges.bounds["a"]
    assert low <= 0 < high
    with pytest.raises(UserError, match="not finite"):
        find_ranges(lambda values: [values * np.nan], "a", Calibration([images]))
