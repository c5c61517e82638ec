"""What holds for every quantizer: what is stored decodes to the forward, bit for bit."""

from __future__ import annotations

import torch
from fairquant_paper.baq import Baq
from fairquant_paper.uniform import Uniform
from fairquant_rivals.codebook import CodebookEma
from hypothesis import given, settings
from hypothesis import strategies as st

CHOICES = tuple(range(9))


QUANTIZERS = [
    Uniform("absmax"), Uniform("mse"), Uniform("learned"),
    CodebookEma(), CodebookEma(refine=0),
    *(Baq(gradient, scale) for gradient in ("fractional", "step") for scale in ("absmax", "quantile", "mse")),
]  # fmt: skip


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)


@settings(max_examples=150, deadline=None)
@given(
    quantizer=st.sampled_from(QUANTIZERS), widths=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    columns=st.integers(1, 40), seed=st.integers(0, 999), tensor=st.booleans(), zeros=st.booleans(),
)  # fmt: skip
def test_decoding_the_code_gives_the_forward_bit_for_bit(quantizer, widths, columns, seed, tensor, zeros):
    weight = weights(len(widths), columns, seed)
    if zeros:
        weight[0] = 0
        weight[:, 0] = 0
    bits = torch.tensor(widths[:1] if tensor else widths)
    built = quantizer.build(weight, bits, CHOICES)
    for projected in (False, True):
        if projected:
            built.freeze(bits)
        built.eval()
        stored = built.encode(weight)
        assert torch.equal(stored.decode(), built(weight))
        assert torch.equal(stored.bits, bits.expand(len(widths)))
        half = 2 ** (stored.bits - 1).clamp_min(0)
        largest = torch.where(stored.bits >= 2, half - 1, (stored.bits == 1).long())
        lowest = -half if stored.codebook is not None else -largest  # a codebook uses all 2^b codes
        lowest = torch.where(stored.bits >= 2, lowest, -largest)
        assert (stored.codes <= largest[:, None]).all()
        assert (stored.codes >= lowest[:, None]).all()
        assert (stored.codes[stored.bits == 1] != 0).all()
        assert torch.isfinite(built(weight)).all()


def test_frozen_bits_in_training_mode_are_exact_as_well():
    weight = weights(9, 30, 1)
    built = Baq().build(weight, torch.arange(9), CHOICES).train()
    built.freeze(torch.arange(9))
    assert torch.equal(built.encode(weight).decode(), built(weight))
