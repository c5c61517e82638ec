"""The contract of role `allocator`."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from fairquant.errors import Infeasible
from fairquant.roles import AllocationProblem
from fairquant.testing.cases import problem
from fairquant.testing.contract import everywhere

ALL, FEW = tuple(range(9)), (0, 2, 4, 8)
CASES: dict[str, Any] = {
    "seed": st.integers(0, 999), "units": st.integers(1, 40), "average": st.floats(2.0, 8.0),
    "choices": st.sampled_from([ALL, FEW]), "groups": st.integers(1, 3),
}  # fmt: skip


def _plan(allocator: Any, asked: AllocationProblem) -> torch.Tensor | None:
    """The bits, or None where the allocator says that the budget cannot be met (which it may, for its own widths)."""
    try:
        bits: torch.Tensor = allocator.allocate(asked).bits
    except Infeasible:
        return None
    return bits


def covers_every_unit_with_allowed_bits(allocator: Any) -> None:
    """Every unit gets one of the bit choices."""

    def law(seed: int, units: int, average: float, choices: tuple[int, ...], groups: int) -> None:
        bits = _plan(allocator, problem(seed, units, choices, average, groups))
        if bits is not None:
            assert bits.shape == (units,), f"{units} units got bits of shape {tuple(bits.shape)}"
            assert not bits.is_floating_point(), f"bits are whole numbers, not {bits.dtype}"
            strange = set(bits.tolist()) - set(choices)
            assert not strange, f"{sorted(strange)} are not among the choices {choices}"

    everywhere(law, **CASES)


def never_exceeds_the_budget(allocator: Any) -> None:
    """The plan's bits are within the budget, not by a rounding above it."""

    def law(seed: int, units: int, average: float, choices: tuple[int, ...], groups: int) -> None:
        asked = problem(seed, units, choices, average, groups)
        bits = _plan(allocator, asked)
        if bits is not None and bits.shape == asked.sizes.shape:
            spent = int((bits.round().long() * asked.sizes).sum())
            assert spent <= asked.capacity, f"{spent} bits spent, {asked.capacity:.0f} allowed"

    everywhere(law, **CASES)


def pinned_units_keep_their_bits(allocator: Any) -> None:
    """A unit with one allowed choice gets it."""

    def law(seed: int, units: int) -> None:
        bits = _plan(allocator, problem(seed, units, FEW, 7.5, pinned=1))
        if bits is not None and len(bits) == units:
            assert int(bits[0]) == 8, f"a unit pinned to 8 bits got {int(bits[0])}"

    everywhere(law, seed=st.integers(0, 999), units=st.integers(4, 40))


def an_impossible_budget_is_said(allocator: Any) -> None:
    """A budget below the cheapest plan raises Infeasible."""

    def law(seed: int, units: int) -> None:
        asked = problem(seed, units, (2, 4, 8), 1.5)
        try:
            allocator.allocate(asked)
        except Infeasible:
            return
        raise AssertionError("a budget of 1.5 bits with no choice below 2 gave a plan")

    everywhere(law, examples=10, seed=st.integers(0, 999), units=st.integers(1, 30))


def meets_some_budget(allocator: Any) -> None:
    """With all choices and 8 bits to spend there is a plan."""
    allocator.allocate(problem(0, 30, ALL, 8.0))


def the_same_problem_gives_the_same_plan(allocator: Any) -> None:
    """Nothing is left to chance that the recipe does not name."""

    def law(seed: int) -> None:
        one, two = (_plan(allocator, problem(seed, 30, ALL, 3.0)) for _ in range(2))
        if one is not None and two is not None:
            assert torch.equal(one, two), "two plans for one problem"

    everywhere(law, examples=10, seed=st.integers(0, 999))


def leaves_its_input_alone(allocator: Any) -> None:
    """The problem is not changed."""
    asked, fresh = (problem(0, 20, ALL, 3.0) for _ in range(2))
    _plan(allocator, asked)
    for name in ("scores", "group_scores", "sizes", "errors", "allowed"):
        assert torch.equal(getattr(asked, name), getattr(fresh, name)), f"it changed the problem's {name}"


CHECKS = (
    covers_every_unit_with_allowed_bits, never_exceeds_the_budget, pinned_units_keep_their_bits,
    an_impossible_budget_is_said, meets_some_budget, the_same_problem_gives_the_same_plan, leaves_its_input_alone,
)  # fmt: skip
