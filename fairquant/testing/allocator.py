"""The contract of role `allocator`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st

from fairquant.errors import Infeasible
from fairquant.roles import AllocationProblem, Allocator, ChecksBudget
from fairquant.testing.cases import problem
from fairquant.testing.contract import NotApplicable, for_all

ALL_WIDTHS, EVEN_WIDTHS = tuple(range(9)), (0, 2, 4, 8)


def _for_all_problems(law: Callable[..., None]) -> None:
    for_all(
        law,
        seed=st.integers(0, 999),
        units=st.integers(1, 40),
        average=st.floats(2.0, 8.0),
        choices=st.sampled_from([ALL_WIDTHS, EVEN_WIDTHS]),
        groups=st.integers(1, 3),
    )


def _plan(allocator: Allocator, case: AllocationProblem) -> torch.Tensor | None:
    """The bits [U], or None where the allocator reports that the budget cannot be met (its own widths may not allow it)."""
    try:
        return allocator.allocate(case).bits
    except Infeasible:
        return None


def covers_every_unit_with_allowed_bits(allocator: Allocator) -> None:
    """Every unit gets one of the bit choices."""

    def law(seed: int, units: int, average: float, choices: tuple[int, ...], groups: int) -> None:
        bits = _plan(allocator, problem(seed, units, choices, average, groups))
        if bits is not None:
            assert bits.shape == (units,), f"{units} units got bits of shape {tuple(bits.shape)}"
            assert not bits.is_floating_point(), f"bits must be integers, not {bits.dtype}"
            unknown = set(bits.tolist()) - set(choices)
            assert not unknown, f"{sorted(unknown)} are not among the choices {choices}"

    _for_all_problems(law)


def never_exceeds_the_budget(allocator: Allocator) -> None:
    """The plan's bits are within the budget, without any rounding tolerance."""

    def law(seed: int, units: int, average: float, choices: tuple[int, ...], groups: int) -> None:
        case = problem(seed, units, choices, average, groups)
        bits = _plan(allocator, case)
        if bits is not None and bits.shape == case.sizes.shape:
            total = int((bits.round().long() * case.sizes).sum())
            assert total <= case.capacity, f"{total} bits used, {case.capacity:.0f} allowed"

    _for_all_problems(law)


def pinned_units_keep_their_bits(allocator: Allocator) -> None:
    """A unit with one allowed choice gets it."""

    def law(seed: int, units: int) -> None:
        bits = _plan(allocator, problem(seed, units, EVEN_WIDTHS, 7.5, pinned=1))
        if bits is not None and len(bits) == units:
            assert int(bits[0]) == 8, f"a unit pinned to 8 bits got {int(bits[0])}"

    for_all(law, seed=st.integers(0, 999), units=st.integers(4, 40))


def an_infeasible_budget_raises(allocator: Allocator) -> None:
    """A budget below the cheapest plan raises Infeasible."""

    def law(seed: int, units: int) -> None:
        case = problem(seed, units, (2, 4, 8), 1.5)
        try:
            allocator.allocate(case)
        except Infeasible:
            return
        raise AssertionError("a budget of 1.5 bits with no choice below 2 gave a plan")

    for_all(law, examples=10, seed=st.integers(0, 999), units=st.integers(1, 30))


def meets_some_budget(allocator: Allocator) -> None:
    """With all choices and a budget of 8 bits there is a plan."""
    allocator.allocate(problem(0, 30, ALL_WIDTHS, 8.0))


def the_same_problem_gives_the_same_plan(allocator: Allocator) -> None:
    """Plans are deterministic: randomness comes only from seeds in the recipe."""

    def law(seed: int) -> None:
        one, two = (_plan(allocator, problem(seed, 30, ALL_WIDTHS, 3.0)) for _ in range(2))
        if one is not None and two is not None:
            assert torch.equal(one, two), "two plans for one problem"

    for_all(law, examples=10, seed=st.integers(0, 999))


def leaves_its_input_alone(allocator: Allocator) -> None:
    """The problem is not modified."""
    case, original = (problem(0, 20, ALL_WIDTHS, 3.0) for _ in range(2))
    _plan(allocator, case)
    for name in ("scores", "group_scores", "sizes", "errors", "allowed"):
        assert torch.equal(getattr(case, name), getattr(original, name)), f"it modified the problem's {name}"


def objections_name_recipe_keys(allocator: Allocator) -> None:
    """`objections`, where there is one, gives pairs (recipe key, what is wrong), and none to 8 bits with every width."""
    if not isinstance(allocator, ChecksBudget):
        raise NotApplicable("it has no `objections`")
    for average in (0.5, 8.0):
        objections = allocator.objections(average, ALL_WIDTHS)
        pairs = isinstance(objections, list) and all(isinstance(each, tuple) and len(each) == 2 for each in objections)
        assert pairs and all(isinstance(text, str) for each in objections for text in each), f"it gave {objections!r}"
    assert not objections, f"it objects to 8 bits with every width: {objections}"


CHECKS = (
    covers_every_unit_with_allowed_bits, never_exceeds_the_budget, pinned_units_keep_their_bits,
    an_infeasible_budget_raises, meets_some_budget, the_same_problem_gives_the_same_plan, leaves_its_input_alone,
    objections_name_recipe_keys,
)  # fmt: skip
