"""Layers and their units, and a table of importance over all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from fairquant.roles import GroupImportance, Layer


@pytest.mark.parametrize(("unit", "units", "unit_size"), [("channel", 8, 12), ("tensor", 1, 96)])
def test_units_are_output_channels_or_the_tensor(unit, units, unit_size):
    layer = Layer(("conv",), (nn.Conv2d(6, 8, (1, 2)),), unit)
    assert (layer.rows, layer.units, layer.unit_size) == (8, units, unit_size)


def test_sums_over_channels_become_sums_over_units():
    rows = torch.arange(8.0).repeat(2, 1)
    assert torch.equal(Layer(("a",), (nn.Linear(3, 8),), "channel").per_unit(rows), rows)
    assert Layer(("a",), (nn.Linear(3, 8),), "tensor").per_unit(rows).tolist() == [[28.0], [28.0]]


def test_the_weight_is_the_stored_one_also_under_a_quantizer():
    class Zero(nn.Module):
        def forward(self, weight):
            return weight * 0

    module = nn.Linear(3, 2)
    stored = module.weight
    parametrize.register_parametrization(module, "weight", Zero())
    assert module.weight.abs().sum() == 0
    assert Layer(("a",), (module,), "channel").weight is stored


def test_the_table_holds_all_layers_side_by_side():
    importance = GroupImportance({"a": torch.ones(2, 3), "b": torch.zeros(2, 1)}, ("x", "y"))
    assert importance.table().tolist() == [[1, 1, 1, 0]] * 2
