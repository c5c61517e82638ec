"""The contract of role `quantizer`. A class may name the widths it has: `widths: ClassVar = (2, 3, 4)`; else 0 to 8."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from fairquant.roles import WeightQuantizer
from fairquant.testing.cases import weights
from fairquant.testing.contract import NotApplicable, everywhere

SEEDS, ROWS, COLUMNS = st.integers(0, 999), st.integers(1, 8), st.integers(1, 30)


def widths_of(quantizer: Any) -> tuple[int, ...]:
    return tuple(getattr(quantizer, "widths", range(9)))


def _build(quantizer: Any, seed: int, rows: int, columns: int) -> tuple[WeightQuantizer, torch.Tensor, torch.Tensor]:
    """A quantizer at whole bits on a weight: (module, weight, bits)."""
    choices = widths_of(quantizer)
    weight = weights(seed, rows, columns)
    place = torch.randint(len(choices), (rows,), generator=torch.Generator().manual_seed(seed))
    bits = torch.tensor(choices)[place]
    built: WeightQuantizer = quantizer.build(weight, bits, choices)
    built.freeze(bits)
    return built.eval(), weight, bits


def decoding_gives_the_forward_bit_for_bit(quantizer: Any) -> None:
    """decode(encode(w)) equals forward(w) exactly: what ships is what was trained."""

    def law(seed: int, rows: int, columns: int, zero: bool) -> None:
        built, weight, _ = _build(quantizer, seed, rows, columns)
        if zero:
            weight[0] = 0
        decoded, forward = built.encode(weight).decode(), built(weight)
        assert decoded.shape == weight.shape, f"a weight {list(weight.shape)} decodes to {list(decoded.shape)}"
        assert torch.equal(decoded, forward), f"they differ by up to {float((decoded - forward).abs().max()):g}"

    everywhere(law, seed=SEEDS, rows=ROWS, columns=COLUMNS, zero=st.booleans())


def codes_fit_their_bits(quantizer: Any) -> None:
    """A row of b bits has codes that fit b bits, and the bits that were asked for."""

    def law(seed: int, rows: int, columns: int) -> None:
        built, weight, bits = _build(quantizer, seed, rows, columns)
        stored = built.encode(weight)
        assert torch.equal(stored.bits, bits), f"rows were to have {bits.tolist()} bits and have {stored.bits.tolist()}"
        half = 2 ** (bits - 1).clamp_min(0)
        most = torch.where(bits >= 2, half - 1, (bits == 1).long())
        least = -torch.where(bits >= 2, half if stored.codebook is not None else most, most)
        codes = stored.codes.long()
        fits = (codes <= most[:, None]) & (codes >= least[:, None])
        assert bool(fits.all()), f"codes up to {int(codes.abs().max())} do not fit {bits.tolist()} bits"
        assert bool((codes[bits == 1] != 0).all()), "with one bit a code is -1 or +1"

    everywhere(law, seed=SEEDS, rows=ROWS, columns=COLUMNS)


def freeze_sets_the_bits(quantizer: Any) -> None:
    """After freeze(bits), bits() are exactly these and no longer learnt."""

    def law(seed: int, rows: int) -> None:
        built, _, bits = _build(quantizer, seed, rows, 9)
        assert torch.equal(built.bits().detach().double(), bits.double()), (
            f"{bits.tolist()} became {built.bits().tolist()}"
        )
        assert not built.learns_bits, "it still learns its bits"

    everywhere(law, examples=10, seed=SEEDS, rows=ROWS)


def no_bits_prune_the_unit(quantizer: Any) -> None:
    """A unit of 0 bits is 0."""
    if 0 not in widths_of(quantizer):
        raise NotApplicable("it has no width 0")
    weight, bits = weights(0, 4, 9), torch.zeros(4, dtype=torch.int64)
    built = quantizer.build(weight, bits, widths_of(quantizer))
    built.freeze(bits)
    assert bool((built.eval()(weight) == 0).all()), "weights of 0 bits are not 0"


def the_gradient_reaches_the_weight(quantizer: Any) -> None:
    """Training passes through: the weight's gradient is finite and not 0."""

    def law(seed: int) -> None:
        most = max(widths_of(quantizer))
        weight = weights(seed, 5, 40).requires_grad_(True)
        built = quantizer.build(weight.detach(), torch.full((5,), most), widths_of(quantizer)).train()
        target = weights(seed + 1, 5, 40)
        (gradient,) = torch.autograd.grad((built(weight) * target).sum(), weight)
        assert torch.isfinite(gradient).all(), "the gradient is not finite"
        assert float(gradient.abs().sum()) > 0, "no gradient reaches the weight"

    everywhere(law, examples=10, seed=SEEDS)


def more_bits_are_closer(quantizer: Any) -> None:
    """The widest width is closer to the weight than the narrowest."""
    choices = widths_of(quantizer)
    if len(choices) < 2:
        raise NotApplicable("it has one width")

    def law(seed: int) -> None:
        weight = weights(seed, 6, 60)
        error = []
        for width in (min(choices), max(choices)):
            bits = torch.full((6,), width)
            built = quantizer.build(weight, bits, choices)
            built.freeze(bits)
            error.append(float((built.eval()(weight).detach() - weight).square().sum()))
        assert error[1] < error[0], f"squared error {error[0]:g} at {min(choices)} bits, {error[1]:g} at {max(choices)}"

    everywhere(law, examples=10, seed=SEEDS)


def its_state_is_in_the_state_dict(quantizer: Any) -> None:
    """A module built for another weight gives the same answer once the state dict is loaded: checkpoints need it."""

    def law(seed: int) -> None:
        built, weight, bits = _build(quantizer, seed, 6, 20)
        other = quantizer.build(weights(seed + 1, 6, 20), bits, widths_of(quantizer))
        other.freeze(bits)
        other.load_state_dict(built.state_dict())
        assert torch.equal(other.eval()(weight), built(weight)), "something that it depends on is not in its state dict"

    everywhere(law, examples=10, seed=SEEDS)


CHECKS = (
    decoding_gives_the_forward_bit_for_bit, codes_fit_their_bits, freeze_sets_the_bits, no_bits_prune_the_unit,
    the_gradient_reaches_the_weight, more_bits_are_closer, its_state_is_in_the_state_dict,
)  # fmt: skip
