"""Batches for measurement: in order, by group, and the images that calibration draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.training import small_split
from hypothesis import given, settings
from hypothesis import strategies as st

from fairquant.data.batching import batches, draw_calibration, regroup, split_by_group
from fairquant.data.transforms import Normalization
from fairquant.roles import Batch, Split

IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3)
CPU = torch.device("cpu")


def numbered(groups: list[int], sizes: list[int]) -> list[Batch]:
    """Images whose pixels are their own number, cut into batches of the given sizes."""
    rows = torch.arange(len(groups))
    images = rows.float()[:, None, None, None].expand(-1, 3, 2, 2)
    parts = zip(images.split(sizes), rows.split(sizes), torch.tensor(groups).split(sizes), strict=True)
    return [Batch(*part) for part in parts]


def test_batches_follow_the_split_and_the_last_may_be_shorter():
    split = small_split(10)
    stream = list(batches(split, 4, IDENTITY, CPU))
    assert [len(batch.labels) for batch in stream] == [4, 4, 2]
    assert torch.cat([batch.labels for batch in stream]).tolist() == split.labels.tolist()
    assert torch.cat([batch.groups for batch in stream]).tolist() == split.groups.tolist()
    torch.testing.assert_close(stream[2].images[1] * 255, split.images[9].float())


def test_a_batch_is_split_into_one_for_each_group_that_occurs():
    (batch,) = numbered([2, 0, 2, 0, 0], [5])
    parts = list(split_by_group(batch))
    assert [part.labels.tolist() for part in parts] == [[1, 3, 4], [0, 2]]


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.integers(0, 2), min_size=1, max_size=30), size=st.integers(1, 7))
def test_regrouped_batches_hold_one_group_each_and_every_image_once(groups, size):
    sizes = [size] * (len(groups) // size) + ([len(groups) % size] if len(groups) % size else [])
    out = list(regroup(numbered(groups, sizes), 3))
    assert sorted(row for batch in out for row in batch.labels.tolist()) == list(range(len(groups)))
    for batch in out:
        assert len(set(batch.groups.tolist())) == 1
        assert len(batch.labels) <= max(sizes)
        assert batch.images[:, 0, 0, 0].tolist() == batch.labels.tolist()


def groups_of(counts: list[int]) -> Split:
    groups = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    split = small_split(len(groups))
    return Split(split.images, split.labels, groups, split.ids)


@pytest.mark.parametrize(("counts", "images", "expected"), [([50, 50], 20, [10, 10]), ([90, 5, 5], 30, [20, 5, 5])])
def test_calibration_draws_equally_of_every_group_as_far_as_they_last(counts, images, expected):
    drawn = draw_calibration(groups_of(counts), images, len(counts), seed=1)
    assert np.bincount(drawn.groups).tolist() == expected
    assert len(set(drawn.ids)) == images


def test_calibration_is_a_function_of_the_seed_and_takes_all_where_there_are_too_few():
    train = groups_of([30, 10])
    assert draw_calibration(train, 12, 2, 5).ids == draw_calibration(train, 12, 2, 5).ids
    assert draw_calibration(train, 12, 2, 5).ids != draw_calibration(train, 12, 2, 6).ids
    assert draw_calibration(train, 40, 2, 5) is train
