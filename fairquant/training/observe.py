"""What regularizers may need besides the step itself (running group losses, the inputs of the classifier), and what they return."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fairquant.bits.unchanged import unchanged
from fairquant.errors import PluginFailed, UserError
from fairquant.recipe.schema import Component
from fairquant.roles import Regularizer, Step


def penalty_of(component: Component[Regularizer], step: Step) -> Tensor:
    """A regularizer's penalty []. Raises PluginFailed unless it is one real number, through which gradients can flow where it is
    not 0."""
    who = f"regularizer {component.label!r}"
    with unchanged(step, who):
        found: object = component.value.penalty(step)
    if not isinstance(found, Tensor) or found.ndim or not found.is_floating_point():
        shown = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise PluginFailed(f"{who} returned {shown}, a tensor [] of one real number is wanted")
    if not found.requires_grad and bool(found != 0):
        raise PluginFailed(
            f"{who} returned {found.item():g} without a gradient, which changes nothing: was a value detached?"
        )
    return found


class RunningLosses(nn.Module):
    """Exponential moving averages of the group losses [G], NaN until a group has been seen."""

    losses: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.register_buffer("losses", torch.full((groups,), math.nan))

    @torch.no_grad()
    def update(self, step: Step, momentum: float) -> Tensor:
        """Mix the step's group losses into the averages [G], and return them."""
        means, present = step.losses_by_group()
        mixed = torch.where(torch.isnan(self.losses), means, momentum * self.losses + (1 - momentum) * means)
        self.losses.copy_(torch.where(present, mixed, self.losses))
        return self.losses.clone()


@contextmanager
def capture_features(model: nn.Module | None) -> Iterator[list[Tensor]]:
    """Inputs of the network's classifier (timm's, else its last Linear) [B, D], one entry per call."""
    seen: list[Tensor] = []
    if model is None:
        yield seen
        return
    get: Any = getattr(model, "get_classifier", None)
    named = get() if callable(get) else None
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    classifier = named if isinstance(named, nn.Linear) else linear[-1] if linear else None
    if classifier is None:
        raise UserError("a regularizer needs the features before the classifier, but the model ends in no Linear layer")
    hook = classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
