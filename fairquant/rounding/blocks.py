"""The blocks of a network: the repeated modules, such as a transformer's layers, whose layers work together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairquant.roles import Layer

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, eq=False)
class Block:
    """A module with at least two layers that no other module uses. layers: their numbers."""

    name: str
    module: nn.Module
    layers: tuple[int, ...]


def find_blocks(network: nn.Module, layers: Sequence[Layer]) -> tuple[Block, ...]:
    """The elements of the network's lists of modules that hold no such list themselves: the blocks of a ResNet or a transformer. A
    network without any is one block."""
    found = [
        Block(name, module, own)
        for name, module in _elements(network, "", layers, False)
        if len(own := _own(module, name, layers)) > 1
    ]
    if not found and len(own := _own(network, "", layers)) > 1:
        return (Block("", network, own),)
    return tuple(found)


def _elements(module: nn.Module, name: str, layers: Sequence[Layer], element: bool) -> Iterator[tuple[str, nn.Module]]:
    """Modules that are elements of a container, as small as they come without taking a repeated module apart."""
    container = isinstance(module, _CONTAINERS)
    if element and not container and not any(_repeats(each, layers) for each in module.modules()):
        yield name, module
        return
    for own, child in module.named_children():
        yield from _elements(child, f"{name}.{own}" if name else own, layers, container)


def _repeats(module: nn.Module, layers: Sequence[Layer]) -> bool:
    """Whether it is a container of at least two modules of one kind, each with at least two layers."""
    if not isinstance(module, _CONTAINERS):
        return False
    weights = {id(layer.weight) for layer in layers}
    kinds = [
        type(child)
        for child in module.children()
        if not isinstance(child, _CONTAINERS) and sum(id(each) in weights for each in child.parameters()) > 1
    ]
    return len(kinds) > len(set(kinds))


def _own(module: nn.Module, name: str, layers: Sequence[Layer]) -> tuple[int, ...]:
    """Numbers of the layers that are used in this module only."""
    start = f"{name}." if name else ""
    return tuple(n for n, layer in enumerate(layers) if all(path.startswith(start) for path in layer.parameters))


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockCall:
    """One batch's way through a block: what the module was called with, with all before it rounded, and what it gives in full
    precision. groups [B]: of the batch's images."""

    arguments: tuple[object, ...]
    options: Mapping[str, object]
    target: object
    groups: Tensor


def by_image(output: object, images: int) -> Tensor | None:
    """A module's output, one row an image: [B, F]. None where it holds no tensor, or one that cannot be separated by image."""
    rows = []
    for tensor in tensors_in(output):
        if not tensor.is_floating_point():
            continue
        if tensor.dim() > 2 and len(tensor) != images and tensor.shape[1] == images:
            tensor = tensor.transpose(0, 1)  # a sequence axis that comes first
        if not tensor.dim() or len(tensor) % images:
            return None
        rows.append(tensor.reshape(images, -1))
    return torch.cat(rows, 1) if rows else None


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors of a module's output: alone, in tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)


def copied_back(values: object, copies: object) -> None:
    """What a module has written into copies of its arguments is written into the arguments."""
    for value, copy in zip(tensors_in(values), tensors_in(copies), strict=False):
        if value.shape == copy.shape and not torch.equal(value, copy):
            value.copy_(copy)


def cloned(value: object) -> object:
    """The same arguments with tensors of their own, which a module may write into."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: cloned(each) for key, each in value.items()}
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        copies = [cloned(each) for each in value]
        return tuple(copies) if isinstance(value, tuple) else copies
    return value
