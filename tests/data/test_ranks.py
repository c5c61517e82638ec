"""Outside torchrun there is one rank and nothing to wait for; with several, every row has one rank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairquant.data import ranks


def test_outside_torchrun_this_process_is_the_leader_and_has_all_rows(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks.init_process_group()
    assert (ranks.world_size(), ranks.rank(), ranks.is_leader()) == (1, 0, True)
    assert ranks.rank_slice(7) == slice(0, 7)
    assert ranks.gather_objects("own") == ["own"]


def test_outside_torchrun_nobody_waits():
    entered = 0
    with ranks.leader_first():
        ranks.barrier()
        entered += 1
    assert entered == 1


@given(count=st.integers(0, 50), size=st.integers(1, 9))
def test_slices_of_all_ranks_are_the_rows_in_order_and_differ_by_at_most_one(count, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "world_size", lambda: size)
        slices = []
        for number in range(size):
            patch.setattr(ranks, "rank", lambda number=number: number)
            slices.append(list(range(count))[ranks.rank_slice(count)])
    assert [row for each in slices for row in each] == list(range(count))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1
