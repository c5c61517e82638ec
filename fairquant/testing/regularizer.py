"""The contract of role `regularizer`. The memory of a regularizer that keeps one is new in every case."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from fairquant.roles import KeepsMemory, NeedsInputs, Regularizer, Step
from fairquant.testing.cases import reorder_step, step
from fairquant.testing.contract import NotApplicable, for_all

SEEDS = st.integers(0, 999)


def penalty(regularizer: Regularizer, case: Step) -> Tensor:
    """The penalty of a step of B images [B, ...], a scalar [], with a new memory where the regularizer keeps one."""
    memory = regularizer.memory() if isinstance(regularizer, KeepsMemory) else None
    return regularizer.penalty(replace(case, memory=memory))


def _value(regularizer: Regularizer, case: Step) -> float:
    return float(penalty(regularizer, case).detach())


def is_finite_and_differentiable(regularizer: Regularizer) -> None:
    """A finite scalar with a finite gradient, or without gradient where it does not depend on the logits."""

    def law(seed: int) -> None:
        case = step(seed)
        value = penalty(regularizer, case)
        assert value.shape == (), f"the penalty must be a scalar, not {list(value.shape)}"
        assert bool(torch.isfinite(value)), f"it is {float(value)}"
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, case.logits, allow_unused=True)
            assert gradient is None or bool(torch.isfinite(gradient).all()), "its gradient is not finite"

    for_all(law, seed=SEEDS)


def can_be_trained_on(regularizer: Regularizer) -> None:
    """A penalty that is not 0 has a gradient with respect to the logits, directly or through the features."""
    case = step(0)
    value = penalty(regularizer, case)
    if not value.abs() > 0:
        raise NotApplicable("it is 0 where no bits are learned")
    assert value.requires_grad, "it has no gradient: was it detached?"
    (gradient,) = torch.autograd.grad(value, case.logits, allow_unused=True)
    assert gradient is not None and float(gradient.abs().sum()) > 0, "its gradient is 0"


def one_group_costs_nothing(regularizer: Regularizer) -> None:
    """A fairness regularizer is 0 where the batch has one group."""

    def law(seed: int, group: int) -> None:
        value = _value(regularizer, step(seed, groups=(group,) * 6))
        assert abs(value) < 1e-9, f"it is {value:g}"

    for_all(law, seed=SEEDS, group=st.integers(0, 2))


def order_of_images_does_not_matter(regularizer: Regularizer) -> None:
    """The images of the batch in another order give the same penalty."""

    def law(seed: int) -> None:
        case = step(seed)
        order = torch.randperm(len(case.labels), generator=torch.Generator().manual_seed(seed))
        one, two = _value(regularizer, case), _value(regularizer, reorder_step(case, order))
        assert abs(one - two) < 1e-9 * max(abs(one), 1), f"{one} became {two}"

    for_all(law, seed=SEEDS)


def order_of_groups_does_not_matter(regularizer: Regularizer) -> None:
    """Renumbering the groups gives the same penalty."""

    def law(seed: int, order: list[int]) -> None:
        case = step(seed)
        renumbered = replace(case, groups=torch.tensor(order)[case.groups])
        one, two = _value(regularizer, case), _value(regularizer, renumbered)
        assert abs(one - two) < 1e-9 * max(abs(one), 1), f"{one} became {two} with the numbering {order}"

    for_all(law, seed=SEEDS, order=st.permutations([0, 1, 2]))


def memory_is_a_module(regularizer: Regularizer) -> None:
    """`memory()`, where there is one, returns a module whose whole state is in its state dict."""
    if not isinstance(regularizer, KeepsMemory):
        raise NotApplicable("it keeps no state over steps")
    one, two = regularizer.memory(), regularizer.memory()
    assert isinstance(one, nn.Module), f"memory() returned a {type(one).__name__}"
    for seed in range(3):
        regularizer.penalty(replace(step(seed), memory=one))
    two.load_state_dict(one.state_dict())
    values = [float(regularizer.penalty(replace(step(9), memory=memory))) for memory in (one, two)]
    assert values[0] == values[1], "a memory restored from its state dict gives another penalty"


def needs_what_the_engine_has(regularizer: Regularizer) -> None:
    """`needs`, where there is one, names "features" or "teacher"."""
    if not isinstance(regularizer, NeedsInputs):
        raise NotApplicable("it needs nothing besides the step")
    unknown = sorted(set(regularizer.needs) - {"features", "teacher"})
    assert isinstance(regularizer.needs, frozenset) and not unknown, f"needs is {regularizer.needs!r}"


CHECKS = (
    is_finite_and_differentiable, can_be_trained_on, one_group_costs_nothing, order_of_images_does_not_matter,
    order_of_groups_does_not_matter, memory_is_a_module, needs_what_the_engine_has,
)  # fmt: skip
