"""From importance to an allocation problem: errors of the very quantizer, and errors that an importance measures itself."""

from __future__ import annotations

import pytest
import torch
from fairquant_fair.allocators import Knapsack, Minimax
from fairquant_paper.reducers import Balanced, Cvar, Max, Mean
from fairquant_paper.uniform import Uniform
from helpers.models import problem_of
from torch import nn

from fairquant.bits import find_layers
from fairquant.bits.problem import Budget, squared_errors, weight_errors, with_measured
from fairquant.roles import GroupImportance

GROUPS, CHOICES = ("a", "b"), (0, 2, 4, 8)


def errors_of(layers):
    return {layer.name: torch.stack([*weight_errors(layer, Uniform(), CHOICES)]) for layer in layers}


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return find_layers(nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 6)), "channel")


@pytest.fixture
def problem(layers):
    scores = {layer.name: torch.rand(2, layer.units) for layer in layers}
    importance = GroupImportance(scores, GROUPS)
    return problem_of(layers, importance, importance.table().max(0).values, Uniform(), CHOICES, Budget(3.0))


def test_errors_are_those_of_the_quantizer(layers, problem):
    for layer, squared in zip(layers, problem.errors.split([4, 6]), strict=True):
        weight = layer.weight.detach()
        for column, error in enumerate(weight_errors(layer, Uniform(), CHOICES)):
            built = Uniform().build(weight, torch.full((layer.units,), CHOICES[column]), CHOICES)
            torch.testing.assert_close(weight + error, built.eval()(weight))
            torch.testing.assert_close(error.square().sum(1).double(), squared[:, column])


def test_precomputed_errors_are_not_computed_again(layers, problem):
    again = squared_errors(layers, None, CHOICES, precomputed=errors_of(layers))
    assert torch.equal(again, problem.errors)


@pytest.mark.parametrize("reducer", [Max(), Mean(), Cvar(0.7), Balanced()])
def test_measured_errors_take_the_place_of_importance_times_error(layers, problem, reducer):
    """An importance that measures what the product says changes nothing, whatever reduces the groups."""
    scores = dict(zip(("0", "2"), problem.group_scores.split([4, 6], 1), strict=True))

    squares = {name: error.flatten(2).square().sum(2).double() for name, error in errors_of(layers).items()}  # [K, U]
    product = {name: scores[name][:, :, None] * square.T for name, square in squares.items()}

    measured = with_measured(problem, layers, product, lambda table: reducer.reduce(table, GROUPS))
    torch.testing.assert_close(measured.group_errors(), problem.group_errors())
    reduced = reducer.reduce(problem.group_errors().flatten(1), GROUPS).view(10, 4)
    torch.testing.assert_close(measured.weighted_errors(), reduced)
    assert torch.equal(Minimax().allocate(measured).bits, Minimax().allocate(problem).bits)


@pytest.mark.parametrize("allocator", [Knapsack(), Minimax()])
def test_allocators_go_by_what_was_measured(layers, problem, allocator):
    """Only group b suffers, and only from what is done to the last layer: all bits that there are go there."""

    lost = {layer.name: torch.tensor([9.0, 4.0, 1.0, 0.0]).repeat(2, layer.units, 1) for layer in layers}
    lost["0"][:] = 0
    lost["2"][0] = 0
    measured = with_measured(problem, layers, lost, lambda table: table.max(0).values)
    bits = allocator.allocate(measured).bits
    assert bits[4:].tolist() == [8] * 6  # 24 weights at 8 bits are 192 of the 64 * 3 bits there are
    assert bits[:4].tolist() == [0] * 4
