"""codebook-ema (ADQ): codewords by hand, better than a uniform grid on strange weights, follow the weights in training."""

from __future__ import annotations

import pytest
import torch
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma, root_mean_square

from fairquant.bits.packing import pack, packed_bytes, unpack

CHOICES = tuple(range(9))


def build(weight, bits, **options):
    return CodebookEma(**options).build(weight, torch.tensor(bits), CHOICES)


def test_codewords_start_at_quantiles_of_the_scaled_weights():
    weight = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]])
    codewords = build(weight, [2], refine=0).codewords[2, :4]
    ordered = weight[0].sort().values / root_mean_square(weight)
    assert torch.allclose(codewords, ordered[[1, 3, 5, 7]])  # quantiles 1/8, 3/8, 5/8, 7/8 of eight values


def test_k_means_finds_clusters_that_are_there():
    weight = torch.tensor([[-3.0, -3.1, -2.9, -1.0, -1.1, 1.0, 0.9, 4.0, 4.2]])
    built = build(weight, [2]).eval()
    scale = root_mean_square(weight)
    assert torch.allclose(built.codewords[2, :4] * scale, torch.tensor([-3.0, -1.05, 0.95, 4.1]), atol=1e-5)
    assert torch.allclose(built(weight), torch.tensor([[-3.0] * 3 + [-1.05] * 2 + [0.95] * 2 + [4.1] * 2]), atol=1e-5)


def test_one_step_of_the_moving_averages_by_hand():
    weight = torch.tensor([[-1.0, -1.0, 1.0, 1.0]], requires_grad=True)
    built = build(weight, [1], decay=0.9).train()
    assert torch.allclose(built.codewords[1, :2], torch.tensor([-1.0, 1.0]))
    with torch.no_grad():
        weight.copy_(torch.tensor([[-1.0, -1.0, 1.0, 3.0]]))
    scale = 3**0.5  # root mean square of (-1, -1, 1, 3)
    built(weight)  # takes the weights in; the codewords of this step are the old ones
    assert torch.allclose(built.codewords[1, :2], torch.tensor([-1.0, 1.0]))
    built(weight)  # now they have followed
    expected = (0.9 * 2 * 1.0 + 0.1 * 4 / scale) / (0.9 * 2 + 0.1 * 2)
    assert built.codewords[1, 1].item() == pytest.approx(expected, rel=1e-6)
    assert built.codewords[1, 0].item() == pytest.approx(-(0.9 * 2 + 0.1 * 2 / scale) / 2, rel=1e-6)


def test_the_gradient_passes_and_evaluation_moves_nothing():
    weight = torch.randn(4, 50, requires_grad=True)
    built = build(weight, [2, 3, 1, 0])
    built(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
    before = {name: buffer.clone() for name, buffer in built.eval().named_buffers()}
    built(weight)
    assert all(torch.equal(before[name], buffer) for name, buffer in built.named_buffers())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_closer_to_the_weights_than_a_uniform_grid_of_as_many_bits(bits):
    torch.manual_seed(0)
    weight = torch.randn(16, 400) ** 3  # long tails, where a uniform grid wastes its levels
    widths = torch.full((16,), bits)
    ours, uniform = CodebookEma().build(weight, widths, CHOICES), Uniform("mse").build(weight, widths, CHOICES)
    error = [float((built.eval()(weight) - weight).square().sum()) for built in (ours, uniform)]
    assert error[0] < 0.9 * error[1]


def test_all_codes_of_a_width_are_used_and_packed():
    torch.manual_seed(1)
    weight = torch.randn(9, 700)
    stored = CodebookEma().build(weight, torch.arange(9), CHOICES).eval().encode(weight)
    assert int(stored.codes[3].min()) == -4
    assert int(stored.codes[3].max()) == 3
    packed = pack(stored)
    assert len(packed) == packed_bytes(stored.bits, 700)
    assert torch.equal(unpack(packed, stored.bits, 700, codebook=True), stored.codes)
