"""The contract of role `quantizer`. A class may name the widths it has: `widths: ClassVar = (2, 3, 4)`; else 0 to 8."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from fairquant.roles import LimitedWidths, Quantizer, WeightQuantizer
from fairquant.roles.quantizer import widths_of
from fairquant.rounding.levels import levels_of
from fairquant.testing.cases import weights
from fairquant.testing.contract import NotApplicable, for_all

SEEDS, ROWS, COLUMNS = st.integers(0, 999), st.integers(1, 8), st.integers(1, 30)


def _build(quantizer: Quantizer, seed: int, rows: int, columns: int) -> tuple[WeightQuantizer, Tensor, Tensor]:
    """A frozen module in evaluation mode, a weight [rows, columns] and the bits of each row [rows]."""
    choices = widths_of(quantizer)
    weight = weights(seed, rows, columns)
    choice = torch.randint(len(choices), (rows,), generator=torch.Generator().manual_seed(seed))
    bits = torch.tensor(choices)[choice]
    built = quantizer.build(weight, bits, choices)
    built.freeze(bits)
    return built.eval(), weight, bits


def decoding_gives_the_forward_bit_for_bit(quantizer: Quantizer) -> None:
    """decode(encode(w)) equals forward(w) exactly: the stored weights are those that were trained."""

    def law(seed: int, rows: int, columns: int, zero: bool) -> None:
        built, weight, _ = _build(quantizer, seed, rows, columns)
        if zero:
            weight[0] = 0
        decoded, forward = built.encode(weight).decode(), built(weight)
        assert decoded.shape == weight.shape, f"a weight {list(weight.shape)} decodes to {list(decoded.shape)}"
        assert torch.equal(decoded, forward), f"they differ by up to {float((decoded - forward).abs().max()):g}"

    for_all(law, seed=SEEDS, rows=ROWS, columns=COLUMNS, zero=st.booleans())


def codes_fit_their_bits(quantizer: Quantizer) -> None:
    """A row of b bits has codes that fit b bits, and the stored bits are the requested ones."""

    def law(seed: int, rows: int, columns: int) -> None:
        built, weight, bits = _build(quantizer, seed, rows, columns)
        stored = built.encode(weight)
        assert torch.equal(stored.bits, bits), f"{bits.tolist()} bits were requested, {stored.bits.tolist()} are stored"
        half = 2 ** (bits - 1).clamp_min(0)
        largest = torch.where(bits >= 2, half - 1, (bits == 1).long())
        smallest = -torch.where(bits >= 2, half if stored.codebook is not None else largest, largest)
        codes = stored.codes.long()
        fits = (codes <= largest[:, None]) & (codes >= smallest[:, None])
        assert bool(fits.all()), f"codes up to {int(codes.abs().max())} do not fit {bits.tolist()} bits"
        assert bool((codes[bits == 1] != 0).all()), "with one bit a code is -1 or +1"

    for_all(law, seed=SEEDS, rows=ROWS, columns=COLUMNS)


def freeze_sets_the_bits(quantizer: Quantizer) -> None:
    """After freeze(bits), bits() returns exactly these bits and they are no longer learned."""

    def law(seed: int, rows: int) -> None:
        built, _, bits = _build(quantizer, seed, rows, 9)
        actual = built.bits().detach().double()
        assert torch.equal(actual, bits.double()), f"{bits.tolist()} became {actual.tolist()}"
        assert not built.learns_bits, "it still learns its bits after freeze()"

    for_all(law, examples=10, seed=SEEDS, rows=ROWS)


def learned_bits_can_be_lowered(quantizer: Quantizer) -> None:
    """lower_bits gives no unit more bits, and enough of it gives all of them the fewest, so that they can be held to a budget."""

    def law(seed: int, rows: int, by: float) -> None:
        choices = widths_of(quantizer)
        draw = torch.Generator().manual_seed(seed)
        bits = torch.tensor(choices)[torch.randint(len(choices), (rows,), generator=draw)]
        built = quantizer.build(weights(seed, rows, 9), bits, choices)
        if not built.learns_bits or built.bit_logits is None:
            raise NotApplicable("its bits are not learned")
        before = built.bits().detach()
        built.lower_bits(by)
        after = built.bits().detach()
        assert bool((after <= before + 1e-5).all()), f"lowered by {by:g}, {before.tolist()} became {after.tolist()}"
        built.lower_bits(1e6)
        fewest = built.bits().detach().round()
        assert bool((fewest == min(choices)).all()), f"lowered as far as can be, the bits are {fewest.tolist()}"

    for_all(law, examples=20, seed=SEEDS, rows=ROWS, by=st.floats(0, 10))


def no_bits_prune_the_unit(quantizer: Quantizer) -> None:
    """The weights of a unit of 0 bits are 0."""
    if 0 not in widths_of(quantizer):
        raise NotApplicable("it has no width 0")
    weight, bits = weights(0, 4, 9), torch.zeros(4, dtype=torch.int64)
    built = quantizer.build(weight, bits, widths_of(quantizer))
    built.freeze(bits)
    assert bool((built.eval()(weight) == 0).all()), "weights of 0 bits are not 0"


def the_gradient_reaches_the_weight(quantizer: Quantizer) -> None:
    """In training mode the gradient of the weight is finite and not 0."""

    def law(seed: int) -> None:
        widest = max(widths_of(quantizer))
        weight = weights(seed, 5, 40).requires_grad_(True)
        built = quantizer.build(weight.detach(), torch.full((5,), widest), widths_of(quantizer)).train()
        target = weights(seed + 1, 5, 40)
        (gradient,) = torch.autograd.grad((built(weight) * target).sum(), weight)
        assert torch.isfinite(gradient).all(), "the gradient is not finite"
        assert float(gradient.abs().sum()) > 0, "no gradient reaches the weight"

    for_all(law, examples=10, seed=SEEDS)


def more_bits_are_closer(quantizer: Quantizer) -> None:
    """The squared error is smaller at the widest width than at the narrowest."""
    choices = widths_of(quantizer)
    if len(choices) < 2:
        raise NotApplicable("it has one width")

    def law(seed: int) -> None:
        weight = weights(seed, 6, 60)
        errors = []
        for width in (min(choices), max(choices)):
            bits = torch.full((6,), width)
            built = quantizer.build(weight, bits, choices)
            built.freeze(bits)
            errors.append(float((built.eval()(weight).detach() - weight).square().sum()))
        assert errors[1] < errors[0], (
            f"squared error {errors[0]:g} at {min(choices)} bits, {errors[1]:g} at {max(choices)}"
        )

    for_all(law, examples=10, seed=SEEDS)


def its_state_is_in_the_state_dict(quantizer: Quantizer) -> None:
    """A module built for another weight gives the same output once the state dict is loaded, as checkpoints require."""

    def law(seed: int) -> None:
        built, weight, bits = _build(quantizer, seed, 6, 20)
        other = quantizer.build(weights(seed + 1, 6, 20), bits, widths_of(quantizer))
        other.freeze(bits)
        other.load_state_dict(built.state_dict())
        assert torch.equal(other.eval()(weight), built(weight)), "part of its state is not in its state dict"

    for_all(law, examples=10, seed=SEEDS)


def training_starts_from_what_was_rounded(quantizer: Quantizer) -> None:
    """After start_from(stored), encode(stored.decode()) is what was stored: with other scales than those of the nearest rounding,
    and where the largest codes are missing."""

    def law(seed: int, rows: int, columns: int, factor: float) -> None:
        nearest, weight, bits = _build(quantizer, seed, rows, columns)
        if type(nearest).start_from is WeightQuantizer.start_from:
            raise NotApplicable("it finds its grid anew")
        found = nearest.encode(weight)
        levels = levels_of(
            replace(found, scale=factor * found.scale, shift=None if found.shift is None else factor * found.shift)
        )
        last = levels.last[:, None]
        numbers = levels.numbers()
        stored = levels.stored(torch.where(last > 2, numbers.clamp_min(1).minimum(last - 1), numbers))
        built = quantizer.build(stored.decode(), bits, widths_of(quantizer))
        built.start_from(stored)
        built.freeze(bits)
        before, after = stored.decode(), built.eval().encode(stored.decode()).decode()
        changed = int((~torch.isclose(after, before, rtol=1e-4, atol=1e-6)).sum())
        assert changed == 0, f"{changed} of {before.numel()} weights change"

    for_all(law, seed=SEEDS, rows=ROWS, columns=COLUMNS, factor=st.sampled_from((0.5, 1.0, 1.5)))


def widths_are_bit_widths(quantizer: Quantizer) -> None:
    """`widths`, where there are any, are ascending whole numbers from 0 to 8."""
    if not isinstance(quantizer, LimitedWidths):
        raise NotApplicable("it has every width")
    widths = quantizer.widths
    whole = bool(widths) and all(isinstance(width, int) and 0 <= width <= 8 for width in widths)
    assert whole and list(widths) == sorted(set(widths)), f"widths are {widths!r}"


CHECKS = (
    decoding_gives_the_forward_bit_for_bit, codes_fit_their_bits, freeze_sets_the_bits, learned_bits_can_be_lowered,
    no_bits_prune_the_unit,
    the_gradient_reaches_the_weight, more_bits_are_closer, its_state_is_in_the_state_dict,
    training_starts_from_what_was_rounded, widths_are_bit_widths,
)  # fmt: skip
