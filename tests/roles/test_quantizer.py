"""Codes become weights in one place; the widths that a quantizer has."""

from __future__ import annotations

import pytest
import torch

from fairquant.roles import QuantizedWeight, WeightQuantizer
from fairquant.roles.quantizer import dequantize, largest_code, row_bits, widths_of

CODES = torch.tensor([[-1, 0, 1], [3, -2, 0]], dtype=torch.int8)
SCALE = torch.tensor([0.5, 2.0])


def test_a_code_counts_steps_of_its_rows_scale():
    assert dequantize(CODES, SCALE, None).tolist() == [[-0.5, 0, 0.5], [6, -4, 0]]


def test_a_dead_zone_moves_codes_away_from_zero_and_leaves_zero_where_it_is():
    shift = torch.tensor([0.25, 1.0])
    assert dequantize(CODES, SCALE, shift).tolist() == [[-0.75, 0, 0.75], [7, -5, 0]]


def test_a_stored_weight_has_its_own_shape_again():
    stored = QuantizedWeight(codes=CODES, bits=torch.tensor([2, 3]), scale=SCALE, shape=(2, 3, 1, 1))
    assert stored.decode().shape == (2, 3, 1, 1)
    assert torch.equal(stored.decode().flatten(1), dequantize(CODES, SCALE, None))


def test_with_a_codebook_every_code_is_the_number_of_a_codeword():
    codebook = torch.zeros(9, 256)
    codebook[1, :2] = torch.tensor([-1.0, 5.0])
    codebook[2, :4] = torch.tensor([-3.0, -1.0, 1.0, 4.0])
    stored = QuantizedWeight(
        codes=torch.tensor([[-1, 1, 1, -1], [-2, -1, 0, 1]], dtype=torch.int8), bits=torch.tensor([1, 2]),
        scale=torch.tensor([1.0, 0.5]), shape=(2, 4), codebook=codebook,
    )  # fmt: skip
    assert stored.decode().tolist() == [[-1, 5, 5, -1], [-1.5, -0.5, 0.5, 2]]


@pytest.mark.parametrize(("bits", "largest"), [(0, 0), (1, 0), (2, 1), (3, 3), (8, 127)])
def test_the_largest_code_of_a_width(bits, largest):
    assert float(largest_code(torch.tensor([bits]))) == largest


def test_one_width_for_the_tensor_holds_for_every_row():
    assert row_bits(torch.tensor([4]), 3).tolist() == [4, 4, 4]
    assert row_bits(torch.tensor([4, 2, 0]), 3).tolist() == [4, 2, 0]


def test_a_quantizer_has_all_widths_unless_it_names_its_own():
    class All:
        def build(self, weight, bits, choices): ...

    class Even(All):
        widths = (2, 4)

    assert widths_of(All()) == tuple(range(9))
    assert widths_of(Even()) == (2, 4)


def test_a_weight_quantizer_holds_its_bits_until_they_are_frozen_to_others():
    quantizer = WeightQuantizer(torch.tensor([2, 8]))
    assert quantizer.bits().tolist() == [2.0, 8.0]
    assert not quantizer.learns_bits
    quantizer.freeze(torch.tensor([4, 0]))
    assert quantizer.bits().tolist() == [4.0, 0.0]
    assert "width" in quantizer.state_dict()
