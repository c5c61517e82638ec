"""The checks of role `quantizer`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from fairquant_paper.baq import Baq, BaqWeightQuantizer
from fairquant_paper.uniform import Uniform, UniformWeightQuantizer
from fairquant_rivals.codebook import CodebookWeightQuantizer
from helpers.contract import failures, own_checks

from fairquant.roles import QuantizedWeight, WeightQuantizer


def quantizer(module, doc):
    @dataclass(frozen=True)
    class Built:
        def build(self, weight, bits, choices):
            return module(weight, bits, "absmax")

    Built.__doc__ = doc
    return Built()


class Drifts(UniformWeightQuantizer):
    def forward(self, weight):
        return super().forward(weight) + 1e-6 * (self.width[:, None] > 0)


class Doubles(UniformWeightQuantizer):
    start_from = WeightQuantizer.start_from

    def encode(self, weight):
        stored = super().encode(weight)
        return replace(stored, codes=stored.codes.clamp(-60, 60) * 2, scale=stored.scale / 2)

    def forward(self, weight):
        return (
            weight + (self.encode(weight).decode() - weight).detach() if self.training else self.encode(weight).decode()
        )


class NeverFrozen(UniformWeightQuantizer):
    learns_bits = True


class LowersTooFar(BaqWeightQuantizer):
    lower_bits = WeightQuantizer.lower_bits  # beyond 0, where its bits rise again


class NotPruned(CodebookWeightQuantizer):
    def __init__(self, weight, bits, scale):
        super().__init__(weight, bits, tuple(range(9)), 0.9, 10)
        self.codewords[0, 0] = 0.5

    def encode(self, weight) -> QuantizedWeight:
        return replace(super().encode(weight), codebook=self.codewords)


class NoGradient(UniformWeightQuantizer):
    def forward(self, weight):
        return super().forward(weight).detach()


class WorseWithEight(UniformWeightQuantizer):
    def grid(self, rows):
        grid = super().grid(rows)
        return replace(grid, scale=torch.where(grid.largest == 127, grid.scale * 1e6, grid.scale))


class Secret(UniformWeightQuantizer):
    start_from = WeightQuantizer.start_from

    def __init__(self, weight, bits, scale):
        super().__init__(weight, bits, scale)
        self.factor = 1 + 0.1 * torch.sigmoid(weight.sum())  # no buffer: lost on resuming

    def grid(self, rows):
        grid = super().grid(rows)
        return replace(grid, scale=grid.scale * self.factor)


class StartsElsewhere(UniformWeightQuantizer):
    def start_from(self, stored):
        """The scale, but not where the largest codes are missing."""
        super().start_from(stored)
        self.clip.clamp_(max=1)


@dataclass(frozen=True)
class Descends(Uniform):
    """Names its widths in the wrong order."""

    widths: ClassVar = (4, 2)


@dataclass(frozen=True)
class LowersBelowZero(Baq):
    """Lowers its bits beyond 0, where they rise again."""

    def build(self, weight, bits, choices):
        return LowersTooFar(weight, bits, (min(choices), max(choices)), self.gradient, self.scale)


BROKEN = {
    "widths_are_bit_widths": Descends(),
    "decoding_gives_the_forward_bit_for_bit": quantizer(Drifts, "Drifts."),
    "codes_fit_their_bits": quantizer(Doubles, "Doubles its codes."),
    "freeze_sets_the_bits": quantizer(NeverFrozen, "Learns for ever."),
    "learned_bits_can_be_lowered": LowersBelowZero(),
    "no_bits_prune_the_unit": quantizer(NotPruned, "Never prunes."),
    "the_gradient_reaches_the_weight": quantizer(NoGradient, "Stops the gradient."),
    "more_bits_are_closer": quantizer(WorseWithEight, "Worse with more bits."),
    "its_state_is_in_the_state_dict": quantizer(Secret, "Keeps a secret."),
    "training_starts_from_what_was_rounded": quantizer(StartsElsewhere, "Starts elsewhere."),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("quantizer", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("quantizer") == set(BROKEN)
