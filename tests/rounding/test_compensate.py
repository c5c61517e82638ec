"""Compensated rounding against computations of another kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from fairquant_paper.uniform import Uniform

from fairquant.rounding.compensate import compensate, descend, refit_scale, row_errors
from fairquant.rounding.levels import levels_of


def layer(seed: int, rows: int, columns: int, bits: list[int]):
    """weight, moments and levels in float64."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    inputs = torch.randn(200, columns, generator=draw) @ torch.randn(columns, columns, generator=draw)
    built = Uniform().build(weight, torch.tensor(bits), tuple(range(9)))
    moments = (inputs.T @ inputs / 200).double()
    return weight.double(), moments, levels_of(built.encode(weight), torch.float64)


def column_by_column(weight, moments, points, damping):
    """Optimal brain quantization with the order of GPTQ, for one row, by removing a column of the inverse at a time (Frantar et
    al., arXiv 2208.11580, equation 3): no Cholesky factor, no blocks."""
    count = len(weight)
    damped = moments + damping * np.mean(np.diag(moments)) * np.eye(count)
    inverse, left, out, w = np.linalg.inv(damped), list(range(count)), np.zeros(count), weight.copy()
    for column in sorted(left, key=lambda j: (-moments[j, j], j)):
        value = points[np.abs(points - w[column]).argmin()]
        out[column] = value
        w = w - inverse[:, column] / inverse[column, column] * (w[column] - value)
        inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return out


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_an_independent_computation_column_by_column(seed):
    """More columns than a block of columns has, and rows of different widths."""
    weight, moments, levels = layer(seed, 5, 70, [1, 2, 3, 4, 8])
    found = levels.values(compensate(weight, moments, levels, 0.01)).numpy()
    for row in range(5):
        expected = column_by_column(weight[row].numpy(), moments.numpy(), np.unique(levels.points[row].numpy()), 0.01)
        assert np.allclose(found[row], expected, atol=1e-7)


def test_each_step_has_less_error_than_the_one_before():
    weight, moments, levels = layer(7, 12, 60, [2] * 6 + [3] * 6)
    nearest = row_errors(weight, moments, levels.values(levels.nearest(weight))).sum()
    begun = compensate(weight, moments, levels)
    compensated = row_errors(weight, moments, levels.values(begun))
    after = descend(weight, moments, levels, begun, 3)
    descended = row_errors(weight, moments, levels.values(after))
    fitted = refit_scale(weight, moments, levels, after)
    refitted = row_errors(weight, moments, fitted.values(after))
    assert compensated.sum() < 0.7 * nearest
    assert (descended <= compensated * (1 + 1e-9)).all()
    assert descended.sum() < compensated.sum()
    assert (refitted <= descended * (1 + 1e-6)).all()


def test_descent_ends_where_no_single_change_helps():
    weight, moments, levels = layer(3, 2, 6, [2, 2])
    numbers = descend(weight, moments, levels, levels.nearest(weight), 50)
    best = row_errors(weight, moments, levels.values(numbers))
    for column, point in itertools.product(range(6), range(3)):
        other = numbers.clone()
        other[:, column] = point
        assert (row_errors(weight, moments, levels.values(other)) >= best - 1e-9).all()


def test_a_tiny_layer_is_solved_nearly_optimally():
    """Against every combination of codes."""
    ratios = []
    for seed in range(10):
        weight, moments, levels = layer(seed, 1, 5, [2])
        every = torch.tensor(list(itertools.product(range(3), repeat=5)))
        errors = row_errors(weight, moments, levels.points[0][every])
        found = descend(weight, moments, levels, compensate(weight, moments, levels), 5)
        ratios.append(float(row_errors(weight, moments, levels.values(found)) / errors.min()))
    assert np.median(ratios) < 1.3


def test_inputs_that_are_always_zero_round_to_the_nearest():
    weight, moments, levels = layer(2, 3, 8, [3, 3, 3])
    moments[:, [1, 5]] = moments[[1, 5], :] = 0
    assert torch.equal(compensate(weight, moments, levels)[:, [1, 5]], levels.nearest(weight)[:, [1, 5]])
    nothing = torch.zeros_like(moments)
    assert torch.equal(compensate(weight, nothing, levels), levels.nearest(weight))
