"""The checks of role `allocator`: for each, a component that is broken in just that way fails just that check."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from helpers.contract import failures, own_checks

from fairquant.errors import Infeasible
from fairquant.roles import Allocation


@dataclass(frozen=True)
class Greedy:
    """A sound allocator: the cheapest plan, raised unit by unit while the budget lasts."""

    def start(self, problem):
        choices = torch.tensor(problem.choices)
        return choices[problem.allowed.int().argmax(1)]

    def allocate(self, problem):
        if problem.least_bits() > problem.average_bits:
            raise Infeasible("no plan fits")
        bits = self.start(problem).clone()
        left = int(problem.capacity) - int((bits * problem.sizes).sum())
        for unit in torch.argsort(problem.scores, descending=True, stable=True).tolist():
            for choice, allowed in zip(problem.choices, problem.allowed[unit].tolist(), strict=True):
                cost = (choice - int(bits[unit])) * int(problem.sizes[unit])
                if allowed and 0 < cost <= left:
                    bits[unit], left = choice, left - cost
        return Allocation(bits)


@dataclass(frozen=True)
class OwnWidths(Greedy):
    """Gives 1 bit in place of 2, asked or not."""

    def allocate(self, problem):
        bits = super().allocate(problem).bits
        return Allocation(torch.where(bits == 2, 1, bits))


@dataclass(frozen=True)
class Spender(Greedy):
    """Everything at the most bits."""

    def allocate(self, problem):
        super().allocate(problem)
        return Allocation(torch.full_like(problem.sizes, problem.choices[-1]))


@dataclass(frozen=True)
class Unpins(Greedy):
    """Starts every unit at the smallest choice."""

    def allocate(self, problem):
        if problem.least_bits() > problem.average_bits:
            raise Infeasible("no plan fits")
        return Allocation(torch.full_like(problem.sizes, problem.choices[0]))


@dataclass(frozen=True)
class NeverRefuses(Greedy):
    """The cheapest plan, whatever the budget."""

    def allocate(self, problem):
        return Allocation(self.start(problem))


@dataclass(frozen=True)
class AlwaysRefuses(Greedy):
    """No budget is enough."""

    def allocate(self, problem):
        raise Infeasible("not enough")


@dataclass(frozen=True)
class Dice(Greedy):
    """Lowers some units by chance."""

    def allocate(self, problem):
        bits, lowest = super().allocate(problem).bits, self.start(problem)
        return Allocation(torch.where(torch.rand(len(bits)) < 0.5, lowest, bits))


@dataclass(frozen=True)
class Rescales(Greedy):
    """Normalises the scores in place."""

    def allocate(self, problem):
        problem.scores.div_(2 * problem.scores.sum())
        return super().allocate(problem)


@dataclass(frozen=True)
class Objects(Greedy):
    """Objects to every budget."""

    def objections(self, average_bits, choices):
        return [("budget.average_bits", "never enough")]


BROKEN = {
    "objections_name_recipe_keys": Objects(),
    "covers_every_unit_with_allowed_bits": OwnWidths(),
    "never_exceeds_the_budget": Spender(),
    "pinned_units_keep_their_bits": Unpins(),
    "an_infeasible_budget_raises": NeverRefuses(),
    "meets_some_budget": AlwaysRefuses(),
    "the_same_problem_gives_the_same_plan": Dice(),
    "leaves_its_input_alone": Rescales(),
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_component_fails_just_that_check(check):
    assert list(failures("allocator", BROKEN[check])) == [check]


def test_every_check_has_its_broken_component():
    assert own_checks("allocator") == set(BROKEN)


def test_a_sound_component_passes():
    assert failures("allocator", Greedy()) == {}
