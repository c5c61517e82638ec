"""Which weights are quantized, and how to run a model without changing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from fairquant.errors import UserError, suggestion
from fairquant.roles.importance import Layer, UnitKind, raw_parameter

#: Modules whose weight multiplies the input that they are called with.
CALLED = (nn.Linear, _ConvNd)
_WITH_WEIGHT = (*CALLED, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)
_IN_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def find_layers(
    model: nn.Module, unit: UnitKind, keep: tuple[str, ...] = (), multiplied: Set[str] = frozenset()
) -> tuple[Layer, ...]:
    """Every weight of the model in order, except those whose layer's name matches a pattern of `keep`: those of linear layers,
    convolutions, embeddings, attention and recurrent layers, and the parameters in `multiplied`
    (`fairquant.bits.multiplications`) that have at least two dimensions larger than 1.

    Modules that share one weight (tied weights) form one layer. Raises UserError for a pattern that matches nothing
    and where nothing is left to quantize.
    """
    shared: dict[int, list[tuple[str, str, nn.Module]]] = {}
    excluded: set[int] = set()
    names = []
    for prefix, module in model.named_modules():
        for own in _weight_names(module, prefix, multiplied):
            weight = raw_parameter(module, own)
            if not isinstance(weight, torch.Tensor) or weight.ndim < 2 or not weight.numel():
                continue
            path = f"{prefix}.{own}" if prefix else own
            names.append(path.removesuffix(".weight"))
            shared.setdefault(id(weight), []).append((names[-1], path, module))
            if any(matches(names[-1], pattern) for pattern in keep):
                excluded.add(id(weight))
    check_patterns("quantize.keep", keep, names)
    layers = tuple(_layer(members, unit) for key, members in shared.items() if key not in excluded)
    if not layers:
        raise UserError("the model has no weight left to quantize. See quantize.keep")
    return layers


def _layer(members: Sequence[tuple[str, str, nn.Module]], unit: UnitKind) -> Layer:
    names, paths, modules = zip(*members, strict=True)
    usual = all(path == f"{name}.weight" for name, path in zip(names, paths, strict=True))
    return Layer(names, modules, unit, () if usual else paths)


def _weight_names(module: nn.Module, prefix: str, multiplied: Set[str]) -> list[str]:
    """What a module calls its weights."""
    if isinstance(module, ParametrizationList):
        return []
    if isinstance(module, _WITH_WEIGHT):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _IN_PROJECTIONS if getattr(module, name) is not None]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        own = [*dict(module.named_parameters(recurse=False)), *getattr(module, "parametrizations", ())]
        return sorted(name for name in own if name.startswith("weight_"))
    start = f"{prefix}." if prefix else ""
    return [
        name
        for name, parameter in module.named_parameters(recurse=False)
        if start + name in multiplied and sum(size > 1 for size in parameter.shape) > 1
    ]


def float_weights(network: nn.Module, layers: Sequence[Layer], multiplied: Set[str] = frozenset()) -> dict[str, int]:
    """The weights that are not quantized and stay in float32, name -> number: parameters with at least two dimensions, and those in
    `multiplied`. Biases and the parameters of normalization layers are no weights."""
    quantized = {id(layer.weight) for layer in layers}
    return {
        name: parameter.numel()
        for name, parameter in network.named_parameters()
        if (parameter.ndim > 1 or name in multiplied) and id(parameter) not in quantized
    }


def float_note(network: nn.Module, layers: Sequence[Layer], multiplied: Set[str] = frozenset()) -> str:
    """Which weights stay in float32, in words; "" where all are quantized."""
    left = float_weights(network, layers, multiplied)
    if not left:
        return ""
    total = sum(left.values()) + sum(layer.weight.numel() for layer in layers)
    kinds = {
        f"{name}.{own}" if name else own: type(module).__name__
        for name, module in network.named_modules()
        for own, _ in module.named_parameters(recurse=False)
    }
    largest = sorted(left, key=lambda name: -left[name])
    shown = ", ".join(f"{name} ({kinds.get(name, 'parameter')})" for name in largest[:4]) + (
        ", ..." if len(left) > 4 else ""
    )
    return (
        f"{len(left)} weight tensor(s) with {100 * sum(left.values()) / total:.1f} % of all weights are not quantized and stay in "
        f"float32: {shown}"
    )


def matches(name: str, pattern: str) -> bool:
    """A pattern with *, ? and [...], or the name itself, which may contain these characters."""
    return name == pattern or fnmatchcase(name, pattern)


def check_patterns(key: str, patterns: tuple[str, ...], names: list[str]) -> None:
    """UserError for each pattern that matches no layer."""
    problems = [
        f"{key}: {pattern!r} matches no layer.{suggestion(pattern, names)} Layers: {', '.join(names[:6])}, ..."
        for pattern in patterns
        if not any(matches(name, pattern) for name in names)
    ]
    if problems:
        raise UserError(problems)


def pinned_bits(layers: tuple[Layer, ...], pin: Mapping[str, int]) -> dict[str, int]:
    """Layer name to the bits that the recipe pins it to; a later pattern wins."""
    check_patterns("quantize.pin", tuple(pin), [name for layer in layers for name in layer.names])
    return {
        layer.name: bits
        for pattern, bits in pin.items()
        for layer in layers
        if any(matches(name, pattern) for name in layer.names)
    }


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode and leave mode, gradients, requires_grad, buffers and random state as they were."""
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        try:
            model.eval()
            for parameter, _, _ in parameters:
                parameter.grad = None  # a backward pass inside would add to it in place
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad, gradient in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, before in buffers:
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)


@contextmanager
def differentiable_weights(model: nn.Module, layers: tuple[Layer, ...]) -> Iterator[list[Tensor]]:
    """The layers' weights [out, ...], the only parameters that gradients are taken of; the model is left as it was."""
    with untouched(model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield [layer.weight.requires_grad_(True) for layer in layers]


def gradients(of: Tensor, weights: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Of a scalar [] with respect to each weight [out, ...]; zeros where a weight is not used."""
    found = torch.autograd.grad(of, list(weights), create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
