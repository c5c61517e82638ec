"""What roundings return is checked."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fairquant.errors import PluginFailed
from fairquant.roles import BlockProblem, QuantizedWeight, Rounded, RoundingProblem, RoundsBlocks
from fairquant.roles.quantizer import codes_fit


def check_rounded(found: object, problem: RoundingProblem, name: str) -> Rounded:
    """What a rounding returned. PluginFailed unless they are codes that fit the grid's bits."""
    who, wanted = f"rounding {name!r}: layer {problem.layer!r}", problem.grid
    if not isinstance(found, Rounded) or not isinstance(found.weight, QuantizedWeight):
        raise PluginFailed(f"{who}: round() returned {type(found).__name__}, a Rounded is wanted")
    weight = found.weight
    if weight.codes.shape != wanted.codes.shape or weight.codes.dtype != torch.int8 or weight.shape != wanted.shape:
        raise PluginFailed(
            f"{who}: codes {weight.codes.dtype} {tuple(weight.codes.shape)}, int8 {tuple(wanted.codes.shape)} wanted"
        )
    if not torch.equal(weight.bits.to(wanted.bits.device), wanted.bits):
        raise PluginFailed(f"{who}: the bits are not those of the plan")
    if outside := int((~codes_fit(weight)).sum()):
        raise PluginFailed(f"{who}: {outside} codes do not fit their bits")
    if not bool(torch.isfinite(weight.decode()).all()):
        raise PluginFailed(f"{who}: weights are NaN or infinite")
    if found.bias is not None and (found.bias.shape != weight.bits.shape or not bool(torch.isfinite(found.bias).all())):
        raise PluginFailed(
            f"{who}: the bias is {tuple(found.bias.shape)} or not finite, ({len(weight.bits)},) finite wanted"
        )
    return found.to(wanted.codes.device)


def rounded_block(rounding: RoundsBlocks, problem: BlockProblem, name: str) -> Mapping[str, Rounded]:
    """What a rounding makes of a block, each layer checked."""
    with torch.enable_grad():
        found: object = rounding.round_block(problem)
    who = f"rounding {name!r}: block {problem.name!r}"
    if not isinstance(found, Mapping):
        raise PluginFailed(f"{who}: round_block() returned {type(found).__name__}, a mapping is wanted")
    if unknown := [str(layer) for layer in found if layer not in problem.layers]:
        raise PluginFailed(f"{who}: no layer of the block is called {', '.join(unknown[:3])}")
    return {layer: check_rounded(each, problem.layers[layer], name) for layer, each in found.items()}
