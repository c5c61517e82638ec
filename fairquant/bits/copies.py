"""Copies of a network with quantizers that have none."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@torch.no_grad()
def copied(network: nn.Module, quantized: bool) -> nn.Module:
    """A copy of a network with quantizers, without them, in evaluation mode: with the quantized weights or those under them."""
    plain, done = copy.deepcopy(network).eval(), dict[int, Tensor]()
    for module in list(plain.modules()):
        if not parametrize.is_parametrized(module):
            continue
        # torch's own removal would change the class, which the copy shares with the network
        chains = module._modules.pop("parametrizations")
        assert isinstance(chains, nn.ModuleDict)
        module.__class__ = type(module).__bases__[0]
        for name, chain in chains.items():
            original = chain.original
            assert isinstance(original, nn.Parameter)
            if quantized:  # once for all modules that share it
                quantizer = next(chain.children())
                original.copy_(done.setdefault(id(original), quantizer(original).clone()))
            module.register_parameter(name, original)
    return plain
