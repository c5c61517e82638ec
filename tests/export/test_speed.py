"""Times of several models, taken in turn."""

from __future__ import annotations

import pytest

from fairquant.export.speed import measure, speed


def test_models_are_timed_in_turn_five_rounds_at_least_and_with_the_same_images():
    calls = []
    runs = {name: lambda images, name=name: calls.append((name, images.shape, float(images.sum()))) for name in "ab"}
    times = measure(runs, 8, [1, 3], seconds=0.0)
    assert {name: {batch: len(values) for batch, values in own.items()} for name, own in times.items()} == {
        "a": {1: 5, 3: 5}, "b": {1: 5, 3: 5},
    }  # fmt: skip
    assert [name for name, _, _ in calls] == ["a", "b"] * 12  # with one call each to warm up at either batch size
    assert {shape for _, shape, _ in calls} == {(1, 3, 8, 8), (3, 3, 8, 8)}
    assert len({total for _, _, total in calls}) == 2


def test_a_model_is_summed_up_by_its_median_its_slow_calls_and_its_throughput():
    summed = speed("a", {1: [1.0, 2.0, 9.0], 4: [8.0, 8.0, 8.0]}, size=100, peak=7)
    assert summed.milliseconds[1] == (2.0, pytest.approx(8.3))
    assert summed.throughput == pytest.approx(4 / 0.008)
    assert (summed.bytes, summed.peak) == (100, 7)
