"""The laws of importances that are cheap to check in every run: what they return, and that they leave the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fairquant.errors import PluginFailed
from fairquant.roles import GroupImportance, Layer
from fairquant.training.checkpoints import state_digest


@contextmanager
def leaves_alone(network: nn.Module, who: str) -> Iterator[None]:
    """Raises PluginFailed where the block changes weights or buffers, leaves gradients or hooks, or changes a mode."""
    before = _state(network)
    yield
    after = _state(network)
    changed = [what for what in before if before[what] != after[what]]
    if changed:
        raise PluginFailed(
            f"{who} changed the model's {', '.join(changed)}: an importance leaves the model as it was "
            "(`fairquant.bits.untouched` sees to it)"
        )


def _state(network: nn.Module) -> dict[str, object]:
    parameters = dict(network.named_parameters())
    return {
        "weights or buffers": state_digest(network.state_dict()),
        "requires_grad": [each.requires_grad for each in parameters.values()],
        "gradients": [None if each.grad is None else each.grad.data_ptr() for each in parameters.values()],
        "hooks": [
            len(hooks)
            for module in network.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        ],
        "training mode": [module.training for module in network.modules()],
    }  # fmt: skip


def check_scores(found: object, layers: tuple[Layer, ...], group_names: tuple[str, ...], name: str) -> None:
    """Raises PluginFailed unless there is one finite score, 0 or more, of every unit for every group."""
    who = f"importance {name!r}"
    if not isinstance(found, GroupImportance):
        raise PluginFailed(f"{who} returned {type(found).__name__}, a GroupImportance is wanted")
    problems = []
    if tuple(found.group_names) != tuple(group_names):
        problems.append(f"its groups are {list(found.group_names)}, the data's {list(group_names)}")
    if list(found.scores) != [layer.name for layer in layers]:
        missing = [layer.name for layer in layers if layer.name not in found.scores]
        problems.append(
            f"no scores of layer {missing[0]!r}" if missing else "its layers are others, or in another order"
        )
    for layer in layers:
        scores, wanted = found.scores.get(layer.name), (len(group_names), layer.units)
        if scores is None:
            continue
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != wanted:
            shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            problems.append(f"layer {layer.name!r}: scores {shape}, {wanted} wanted (groups, units)")
        elif not bool(torch.isfinite(scores).all()):
            problems.append(f"layer {layer.name!r}: {int((~torch.isfinite(scores)).sum())} scores are NaN or infinite")
        elif bool((scores < 0).any()):
            problems.append(f"layer {layer.name!r}: {int((scores < 0).sum())} scores are below 0")
    if problems:
        more = [f"... and {len(problems) - 3} more"] if len(problems) > 3 else []
        raise PluginFailed([f"{who}: {problem}" for problem in problems[:3]] + more)
