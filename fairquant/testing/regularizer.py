"""The contract of role `regularizer`. A memory, where it has one, is fresh in every case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from fairquant.roles import Step
from fairquant.testing.cases import rows, step
from fairquant.testing.contract import NotApplicable, everywhere

SEEDS = st.integers(0, 999)


def penalty(regularizer: Any, given: Step) -> Tensor:
    memory = regularizer.memory() if hasattr(regularizer, "memory") else None
    found: Tensor = regularizer.penalty(replace(given, memory=memory))
    return found


def _value(regularizer: Any, given: Step) -> float:
    return float(penalty(regularizer, given).detach())


def is_finite_and_differentiable(regularizer: Any) -> None:
    """A finite scalar with a finite gradient (none at all where it does not depend on the logits)."""

    def law(seed: int) -> None:
        given = step(seed)
        found = penalty(regularizer, given)
        assert found.shape == (), f"a scalar is wanted, not {list(found.shape)}"
        assert bool(torch.isfinite(found)), f"it is {float(found)}"
        if found.requires_grad:
            (gradient,) = torch.autograd.grad(found, given.logits, allow_unused=True)
            assert gradient is None or bool(torch.isfinite(gradient).all()), "its gradient is not finite"

    everywhere(law, seed=SEEDS)


def can_be_trained_on(regularizer: Any) -> None:
    """Something that training can move comes with a gradient: logits, features, or bits."""
    if "bits" in getattr(regularizer, "needs", ()) or not penalty(regularizer, step(0)).abs() > 0:
        raise NotApplicable("it speaks of bits only")
    given = step(0)
    found = penalty(regularizer, given)
    assert found.requires_grad, "no gradient can come from it: was it detached?"
    (gradient,) = torch.autograd.grad(found, given.logits, allow_unused=True)
    assert gradient is not None and float(gradient.abs().sum()) > 0, "no gradient comes from it"


def one_group_costs_nothing(regularizer: Any) -> None:
    """A fairness regularizer is 0 where the batch has one group."""

    def law(seed: int, group: int) -> None:
        value = _value(regularizer, step(seed, groups=(group,) * 6))
        assert abs(value) < 1e-9, f"it is {value:g}"

    everywhere(law, seed=SEEDS, group=st.integers(0, 2))


def order_of_images_does_not_matter(regularizer: Any) -> None:
    """The batch in another order: the same penalty."""

    def law(seed: int) -> None:
        given = step(seed)
        order = torch.randperm(len(given.labels), generator=torch.Generator().manual_seed(seed))
        one, two = _value(regularizer, given), _value(regularizer, rows(given, order))
        assert abs(one - two) < 1e-9 * max(abs(one), 1), f"{one} became {two}"

    everywhere(law, seed=SEEDS)


def order_of_groups_does_not_matter(regularizer: Any) -> None:
    """Groups numbered otherwise: the same penalty."""

    def law(seed: int, order: list[int]) -> None:
        given = step(seed)
        other = replace(given, groups=torch.tensor(order)[given.groups])
        one, two = _value(regularizer, given), _value(regularizer, other)
        assert abs(one - two) < 1e-9 * max(abs(one), 1), f"{one} became {two} with the numbering {order}"

    everywhere(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def memory_is_a_module(regularizer: Any) -> None:
    """`memory()`, where there is one, gives a module whose whole state is in its state dict."""
    if not hasattr(regularizer, "memory"):
        raise NotApplicable("it keeps nothing over steps")
    one, two = regularizer.memory(), regularizer.memory()
    assert isinstance(one, nn.Module), f"memory() gave a {type(one).__name__}"
    for seed in range(3):
        regularizer.penalty(replace(step(seed), memory=one))
    two.load_state_dict(one.state_dict())
    values = [float(regularizer.penalty(replace(step(9), memory=memory))) for memory in (one, two)]
    assert values[0] == values[1], "a memory restored from its state dict gives another penalty"


CHECKS = (
    is_finite_and_differentiable, can_be_trained_on, one_group_costs_nothing, order_of_images_does_not_matter,
    order_of_groups_does_not_matter, memory_is_a_module,
)  # fmt: skip
