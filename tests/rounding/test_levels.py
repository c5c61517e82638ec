"""The points of a grid, of every quantizer."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma

from fairquant.roles.quantizer import codes_fit
from fairquant.rounding.levels import levels_of

QUANTIZERS = [Uniform(), Uniform("absmax"), Uniform("learned"), Baq(), Baq("step", "absmax"), CodebookEma()]


def grid_of(quantizer, weight, bits):
    built = quantizer.build(weight, bits, tuple(range(9)))
    built.freeze(bits)
    return built.eval().encode(weight)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_codes_are_points_and_points_are_codes(quantizer):
    torch.manual_seed(0)
    weight, bits = torch.randn(18, 40), torch.arange(18) % 9
    grid = grid_of(quantizer, weight, bits)
    levels = levels_of(grid)
    assert torch.allclose(levels.values(levels.numbers()), grid.decode(), atol=1e-6)
    assert torch.equal(levels.stored(levels.numbers()).codes, grid.codes)
    assert (levels.points.diff(dim=1) >= 0).all()
    if grid.codebook is None:
        assert levels.last.tolist() == [len(set(row.tolist())) - 1 for row in levels.points]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_nearest_point_is_the_nearest(quantizer):
    torch.manual_seed(1)
    weight, bits = torch.randn(9, 30), torch.arange(9)
    levels = levels_of(grid_of(quantizer, weight, bits))
    numbers = levels.nearest(weight)
    distance = (levels.points[:, None, :] - weight[:, :, None]).abs()
    assert torch.allclose((levels.values(numbers) - weight).abs(), distance.min(2).values)
    assert codes_fit(levels.stored(numbers)).all()


def test_rows_and_scales():
    weight, bits = torch.randn(6, 8), torch.tensor([2, 3, 4, 2, 1, 0])
    levels = levels_of(grid_of(Uniform(), weight, bits))
    part = levels.rows(slice(1, 3))
    assert torch.equal(part.points, levels.points[1:3])
    assert torch.allclose(levels.scaled(levels.grid.scale * 2).points, levels.points * 2)


def test_few_columns_and_many_have_the_same_points():
    """A search and a division by the distance; rows of zeros, whose points are all the same, too."""
    torch.manual_seed(2)
    weight, bits = torch.randn(18, 40), torch.arange(18) % 9
    weight[4] = 0
    levels = levels_of(grid_of(Uniform(), weight, bits))
    spread = 3 * torch.randn(18, 40)
    by_column = torch.cat([levels.nearest(column[:, None]) for column in spread.unbind(1)], 1)
    assert torch.equal(levels.values(levels.nearest(spread)), levels.values(by_column))


def test_dead_zones_scale_with_their_grid():
    weight, bits = torch.randn(4, 40), torch.tensor([2, 3, 4, 8])
    levels = levels_of(grid_of(Baq("step", "absmax"), weight, bits))
    assert levels.grid.shift is not None
    twice = levels.scaled(2 * levels.grid.scale)
    assert torch.allclose(twice.points, 2 * levels.points)
    assert torch.allclose(twice.stored(levels.numbers()).decode(), 2 * levels.grid.decode(), rtol=1e-5)
