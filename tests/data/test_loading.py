"""Training batches: balanced samplers, order, resuming within an epoch."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import torch
from helpers.splits import unequal_split

from fairquant.data.loading import TrainingBatches, sampling_chances


def test_balanced_samplers_draw_groups_or_cells_equally():
    data = unequal_split()
    assert sampling_chances(data, "uniform") is None
    by_group = sampling_chances(data, "group-balanced")
    assert by_group[data.groups == 1].sum() == pytest.approx(0.5)
    by_cell = sampling_chances(data, "group-class-balanced")
    for group in (0, 1):
        for label in (0, 1):
            assert by_cell[(data.groups == group) & (data.labels == label)].sum() == pytest.approx(0.25)


def test_a_balanced_epoch_has_the_same_length_is_even_and_can_be_resumed():
    batches = TrainingBatches(unequal_split(), 10, "none", seed=3, sampler="group-balanced")
    drawn = [batch.groups for epoch in range(20) for batch in batches.epoch(epoch)]
    assert len(drawn) == 20 * 10
    assert float(torch.cat(drawn).float().mean()) == pytest.approx(0.5, abs=0.05)
    whole = [batch.rows.tolist() for batch in batches.epoch(5)]
    assert [batch.rows.tolist() for batch in batches.epoch(5, skip=4)] == whole[4:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_job_leaves_the_workers_to_their_parent(number):
    loading = TrainingBatches(unequal_split(), 4, "none", seed=0, workers=1).epoch(0)
    next(loading)
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, number)
    assert len(list(loading)) > 0
