"""From the file back to a model whose logits equal those of the trained model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from fairquant.artifact.architecture import count_values, create
from fairquant.artifact.finite import finite_problems, listed, value_problem
from fairquant.artifact.format import BITS, CODEBOOKS, SCALES, widths_of
from fairquant.artifact.header import Header, read_header
from fairquant.artifact.own_module import fold
from fairquant.bits.activations import NAME, attach_input_quantizers
from fairquant.bits.packing import unpack
from fairquant.errors import NotFinite, UserError
from fairquant.recipe.sections import ModelSettings
from fairquant.roles import QuantizedWeight


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a file holds: quantized weights by layer, with the names that share them and their names in the state
    dict; the other state, metadata."""

    weights: dict[str, QuantizedWeight]
    shared_names: dict[str, tuple[str, ...]]
    paths: dict[str, tuple[str, ...]]
    state: dict[str, Tensor]
    metadata: dict[str, Any]  # JSON, checked by `read_header`


def load(path: str | os.PathLike[str], model: nn.Module | Callable[[], nn.Module] | None = None) -> nn.Module:
    """The model of an artifact, in evaluation mode, with ordinary (decoded) weights; where activations were quantized, the
    layers' inputs still are.

    model: needed only where the artifact was made from your own nn.Module: an instance of it (changed in place) or a
    function that makes one. The result has `fairquant_metadata`: classes, preprocessing, plan, recipe, audit.
    Raises UserError for a file that is truncated, altered, foreign, or does not fit the model.
    """
    header = read_header(Path(path))
    target, metadata = _architecture(header, model), header.metadata
    if lazy := [name for name, value in target.named_parameters() if isinstance(value, UninitializedParameter)]:
        raise UserError(
            f"the model's {lazy[0]!r} has no shape yet: pass an image through it before it is loaded into", str(path)
        )
    artifact = _decode(header)
    attach_input_quantizers(target, metadata.get("activations", {}), str(path))
    names = dict(target.state_dict(keep_vars=True))
    problems: list[str] = []
    filled: set[str] = set()
    with torch.no_grad():
        for layer, weight in artifact.weights.items():
            for name in artifact.paths[layer]:
                problems += _fill(names, name, weight.decode(), filled)
        for name, value in artifact.state.items():
            problems += _fill(names, name, value, filled)
    ids = {id(names[name]) for name in filled}
    missing = [name for name, value in names.items() if name not in filled and id(value) not in ids]
    problems += [f"{path}: it holds nothing for the model's {name!r}" for name in missing]
    if problems:
        raise UserError(problems[:10], str(path))
    if broken := finite_problems(target):
        raise NotFinite(f"{path}: refused: {listed(broken)}")
    if metadata["preprocessing"].get("channels_last"):
        target = target.to(memory_format=torch.channels_last)
    target.fairquant_metadata = metadata  # type: ignore[assignment]
    return target.eval()


def _fill(names: dict[str, Tensor], name: str, value: Tensor, filled: set[str]) -> list[str]:
    if name not in names:
        return [f"the model has no {name!r}"]
    if names[name].shape != value.shape:
        return [f"{name!r} is {tuple(value.shape)} in the file and {tuple(names[name].shape)} in the model"]
    names[name].copy_(value)
    filled.add(name)
    return []


def _architecture(header: Header, model: nn.Module | Callable[[], nn.Module] | None) -> nn.Module:
    if model is not None:
        own = model if isinstance(model, nn.Module) else model()
        fold(own)
        return own
    architecture, classes = header.metadata["architecture"], len(header.metadata["classes"])
    if architecture.get("source") != "timm":
        raise UserError(
            f"{header.path}: this artifact was made from your own nn.Module ({architecture.get('class', '?')}), which the file "
            "does not hold (no pickle). Give it: fairquant.load(path, model=MyModel())"
        )
    settings = ModelSettings(
        name=architecture["name"], image_size=architecture["image_size"], options=architecture["options"]
    )
    steps = sum(name.endswith(f".{NAME}.log_step") for name in header.entries)  # of activations, put on afterwards
    wanted, stored = count_values(settings, classes), header.values - steps
    if wanted not in (None, stored):
        raise UserError(f"{header.path}: it holds {stored} values, the model that it names has {wanted}")
    return create(settings, classes)


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read and verify a file. Raises UserError that names what is wrong with it."""
    return _decode(read_header(Path(path)))


def _decode(header: Header) -> Artifact:
    file, layers = header.path, header.layers
    try:
        tensors = load_tensors(header.content)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(f"{file}: its tensors cannot be read: {str(error).splitlines()[0]}") from error
    weights, shared = {}, {}
    rows = [layer.rows for layer in layers]
    if layers:
        packed = tensors.pop(BITS)
        bits = torch.stack([packed >> 4, packed & 15], 1).flatten()[: sum(rows)].to(torch.int64)
        if int(bits.max()) > 8:
            raise UserError(f"{file}: a row claims {int(bits.max())} bits, 8 at most are stored")
        values = tensors.pop(SCALES)
        scales = torch.split(values[: sum(rows)], rows)
        shifts = iter(torch.split(values[sum(rows) :], [layer.rows for layer in layers if layer.shift]))
        codewords = tensors.pop(CODEBOOKS, torch.zeros(0))
        for layer, widths, scale in zip(layers, torch.split(bits, rows), scales, strict=True):
            name = layer.names[0]
            try:
                codes = unpack(tensors.pop(layer.paths[0]).numpy(), widths, layer.columns, layer.codebook)
            except (KeyError, ValueError) as error:
                raise UserError(f"{file}: layer {name!r}: {error}") from error
            codebook = None
            if layer.codebook:
                codebook, codewords = _codebook(widths, codewords, f"{file}: layer {name!r}")
            shift = next(shifts) if layer.shift else None
            weights[name] = QuantizedWeight(
                codes=codes, bits=widths, scale=scale, shape=layer.shape, shift=shift, codebook=codebook
            )
            shared[name] = layer.names
    broken = [
        f"the weight of {name!r} {problem}"
        for name, each in weights.items()
        if (problem := value_problem(each.decode()))
    ]
    broken += [
        f"{name!r} {problem}"
        for name, value in tensors.items()
        if (problem := value_problem(value, may_be_infinite=True))
    ]
    if broken:
        raise NotFinite(f"{file}: refused: {listed(broken)}")
    paths = {layer.names[0]: layer.paths for layer in layers}
    return Artifact(weights=weights, shared_names=shared, paths=paths, state=tensors, metadata=header.metadata)


def _codebook(bits: Tensor, codewords: Tensor, place: str) -> tuple[Tensor, Tensor]:
    """The next layer's codebook [9, 256] and the codewords left for those after it."""
    codebook = torch.zeros(9, 256)
    if len(codewords) < sum(2**width for width in widths_of(bits)):
        raise UserError(f"{place}: its codebook is cut off")
    for width in widths_of(bits):
        codebook[width, : 2**width], codewords = codewords[: 2**width], codewords[2**width :]
    return codebook, codewords
