"""The checks of role `rounding`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from helpers.contract import failures, own_checks

from fairquant.roles import Rounded
from fairquant.rounding.levels import levels_of


@dataclass(frozen=True)
class Sound:
    """To the nearest point."""

    needs: ClassVar = frozenset()

    def round(self, problem):
        levels = levels_of(problem.grid)
        return Rounded(weight=levels.stored(levels.nearest(problem.weight)))


class TooLarge(Sound):
    """One code beyond what its bits hold."""

    def round(self, problem):
        found = super().round(problem)
        codes = found.weight.codes.clone()
        codes[:, 0] = torch.where(
            (found.weight.bits == 2) & (problem.weight[:, 0] != problem.grid.decode()[:, 0]), 100, codes[:, 0]
        )
        return Rounded(weight=replace(found.weight, codes=codes))


class Shrinks(Sound):
    """Another scale whatever the weights are."""

    def round(self, problem):
        found = super().round(problem).weight
        return Rounded(weight=replace(found, scale=found.scale * 0.9))


class First(Sound):
    """The mean input of the first group into the bias."""

    def round(self, problem):
        found = super().round(problem).weight
        moments = None if problem.inputs is None else problem.inputs.moments[0].sum()
        if moments is None or problem.groups[0] == "a" or bool((problem.weight == found.decode()).all()):
            return Rounded(weight=found)
        return Rounded(weight=replace(found, scale=found.scale * 1.001))


class Writes(Sound):
    """Rounds the weight that it is given."""

    def round(self, problem):
        found = super().round(problem)
        problem.weight.copy_(found.weight.decode())
        return found


class Careless(Sound):
    """Measures inputs and rounds away from zero."""

    needs: ClassVar = frozenset({"inputs"})

    def round(self, problem):
        levels = levels_of(problem.grid)
        near = levels.nearest(problem.weight)
        away = (near + problem.weight.sign().long()).clamp_min(0)
        exact = torch.isclose(levels.values(near), problem.weight, rtol=1e-4, atol=1e-6)
        return Rounded(weight=levels.stored(torch.where(exact, near, torch.minimum(away, levels.last[:, None]))))


class Forgets(Sound):
    """Takes the second layer's codes away."""

    def round_block(self, problem):
        last = problem.rounded["second"].weight
        return {"second": Rounded(weight=replace(last, codes=torch.zeros_like(last.codes)))}


BROKEN = {
    "a_block_fits_its_bits_and_is_no_worse_than_its_layers": Forgets(),
    "codes_and_bits_are_those_of_the_grid": TooLarge(),
    "what_is_on_the_grid_stays": Shrinks(),
    "order_and_names_of_groups_do_not_matter": First(),
    "it_leaves_its_problem_alone": Writes(),
    "no_output_is_worse_than_nearest": Careless(),
}


def test_a_sound_one_fails_none():
    assert failures("rounding", Sound()) == {}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("rounding", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("rounding") == set(BROKEN)
