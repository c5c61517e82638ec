"""The laws of components that are cheap to check in every run: what they return, and that an importance leaves the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairquant.errors import PluginFailed
from fairquant.roles import Allocation, AllocationProblem, GroupImportance, Layer
from fairquant.roles.quantizer import QuantizedWeight, Quantizer, WeightQuantizer
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
        elif scores.is_complex() or scores.requires_grad:
            what = "complex" if scores.is_complex() else "part of a graph of gradients (requires_grad): detach them"
            problems.append(f"layer {layer.name!r}: scores are {what}")
        elif not bool(torch.isfinite(scores).all()):
            problems.append(f"layer {layer.name!r}: {int((~torch.isfinite(scores)).sum())} scores are NaN or infinite")
        elif bool((scores < 0).any()):
            problems.append(f"layer {layer.name!r}: {int((scores < 0).sum())} scores are below 0")
    if problems:
        more = [f"... and {len(problems) - 3} more"] if len(problems) > 3 else []
        raise PluginFailed([f"{who}: {problem}" for problem in problems[:3]] + more)


def reduced(found: object, units: int, name: str) -> Tensor:
    """A reducer's answer [U]. Raises PluginFailed unless it is one finite real number for each unit."""
    who = f"reducer {name!r}"
    if not isinstance(found, Tensor):
        raise PluginFailed(f"{who} returned {type(found).__name__}, a tensor [units] is wanted")
    if tuple(found.shape) != (units,):
        raise PluginFailed(f"{who} returned {tuple(found.shape)}, ({units},) wanted (units)")
    if found.is_complex() or not bool(torch.isfinite(found).all()):
        raise PluginFailed(f"{who} returned numbers that are complex, NaN or infinite")
    return found


def allocated(found: object, problem: AllocationProblem, name: str) -> Allocation:
    """An allocator's answer. Raises PluginFailed unless every unit has one of its choices and all are within the budget."""
    who = f"allocator {name!r}"
    bits: object = found.bits if isinstance(found, Allocation) else None
    if not isinstance(found, Allocation) or not isinstance(bits, Tensor):
        raise PluginFailed(f"{who} returned {type(found).__name__}, an Allocation with a tensor `bits` is wanted")
    if tuple(bits.shape) != tuple(problem.sizes.shape) or bits.is_floating_point() or bits.is_complex():
        raise PluginFailed(
            f"{who} returned bits {bits.dtype} {tuple(bits.shape)}, whole numbers ({len(problem.sizes)},) wanted"
        )
    chosen = bits.long().cpu()[:, None] == torch.tensor(problem.choices)
    if wrong := int((~(chosen & problem.allowed.cpu()).any(1)).sum()):
        raise PluginFailed(f"{who} gave {wrong} units bits that are none of their choices, of {list(problem.choices)}")
    if not problem.fits(bits.cpu()):
        unit = "bits" if problem.limit is None else "units of the budget"
        raise PluginFailed(
            f"{who} exceeds the budget: its plan costs {float(problem.cost(bits.cpu()).sum()):.6g} {unit}, "
            f"{problem.capacity:.6g} are allowed"
        )
    return found


@torch.no_grad()
def check_quantizer(quantizer: Quantizer, layers: tuple[Layer, ...], choices: tuple[int, ...], name: str) -> None:
    """Raises PluginFailed unless the quantizer stores of the smallest layer, at the most bits, exactly what its forward pass
    gives. choices: the widths that layers may be given."""
    layer = min(layers, key=lambda each: each.weight.numel())
    weight, who = layer.weight.detach(), f"quantizer {name!r}"
    before = weight.clone()
    built: object = quantizer.build(weight, torch.full((layer.units,), max(choices)), choices)
    if not isinstance(built, WeightQuantizer):
        raise PluginFailed(f"{who}: build() returned {type(built).__name__}, a WeightQuantizer is wanted")
    built.freeze(torch.full((layer.units,), max(choices)))  # bits that are learned may lie between two widths
    stored: object = built.to(weight.device).encode(weight)
    if not isinstance(stored, QuantizedWeight):
        raise PluginFailed(f"{who}: encode() returned {type(stored).__name__}, a QuantizedWeight is wanted")
    forward: object = built(weight)
    decoded = stored.decode()
    for what, found in (("forward()", forward), ("what encode() stores", decoded)):
        if not isinstance(found, Tensor) or found.shape != weight.shape:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise PluginFailed(f"{who}: {what} is {shown} for the weight {tuple(weight.shape)} of layer {layer.name!r}")
        if not bool(torch.isfinite(found).all()):
            raise PluginFailed(f"{who}: {what} of layer {layer.name!r} is NaN or infinite")
    if not torch.equal(weight, before):
        raise PluginFailed(f"{who} wrote into the weight of layer {layer.name!r} that it was given: write into a copy")
    if not torch.equal(built(weight), decoded):
        raise PluginFailed(f"{who}: what encode() stores of layer {layer.name!r} is not what forward() gives")
