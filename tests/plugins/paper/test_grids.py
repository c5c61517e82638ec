"""Grids of levels: scales of least squared error."""

from __future__ import annotations

import math

import pytest
import torch
from fairquant_paper import grids
from fairquant_paper.grids import chunks, mse_clipping, row_statistics, uniform_grid
from fairquant_paper.uniform import Uniform

CHOICES = tuple(range(9))


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mse_scale_is_at_least_as_close_as_absmax_and_near_the_best_scale(bits):
    weight = weights(6, 500, 2)
    widths = torch.full((6,), bits)
    error = {
        scale: (Uniform(scale).build(weight, widths, CHOICES)(weight) - weight).square().sum(1)
        for scale in ("absmax", "mse")
    }
    assert (error["mse"] <= error["absmax"] * (1 + 1e-6)).all()
    top = 2 ** (bits - 1) - 1
    best = torch.full((6,), math.inf)
    for ratio in torch.linspace(0.1, 1.0, 400):
        scale = weight.abs().amax(1, keepdim=True) * ratio / top
        best = torch.minimum(best, ((weight / scale).round().clamp(-top, top) * scale - weight).square().sum(1))
    assert (error["mse"] <= best * (1.03 if bits < 8 else 1.12)).all()  # wide codes are searched more coarsely
    assert (mse_clipping(weight, widths) <= 1).all()


def test_rows_are_cut_into_slices_that_cover_them_in_order(monkeypatch):
    monkeypatch.setattr(grids, "CHUNK_SIZE", 25)
    weight = torch.zeros(7, 10)
    rows = [row for chunk in chunks(weight) for row in range(7)[chunk]]
    assert rows == list(range(7))
    assert len(list(chunks(weight))) == 4
    assert list(chunks(torch.zeros(0, 10))) == []


def test_statistics_of_rows_do_not_depend_on_the_slices(monkeypatch):
    weight = torch.randn(9, 30)
    monkeypatch.setattr(grids, "CHUNK_SIZE", 40)
    largest, mean = row_statistics(weight, need_mean=True)
    assert torch.equal(largest, weight.abs().amax(1))
    torch.testing.assert_close(mean, weight.abs().mean(1))


def test_a_uniform_grid_by_hand():
    weight = torch.tensor([[0.9, -3.0, 0.1], [0.9, -3.0, 0.2], [5.0, -1.0, 0.0]])
    grid = uniform_grid(torch.full((3,), 3.0), torch.tensor([1.0, 1.5, 2.0]), torch.tensor([2, 1, 3]))
    assert grid.codes(weight).tolist() == [[0, -1, 0], [1, -1, 1], [3, -1, 0]]
    assert grid.quantize(weight).tolist() == [[0, -3, 0], [1.5, -1.5, 1.5], [3, -1, 0]]
    assert grid.select(torch.tensor([2])).quantize(weight[2:]).tolist() == [[3, -1, 0]]
