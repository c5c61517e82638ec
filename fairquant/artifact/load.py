"""From the file back to a model whose logits equal the trained one's."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from fairquant.artifact.format import BITS, CODEBOOKS, FORMAT, SCALES, check_seal, widths_of
from fairquant.bits.activations import put_on
from fairquant.bits.packing import unpack
from fairquant.errors import UserError
from fairquant.recipe.sections import ModelSettings
from fairquant.roles import QuantizedWeight


@dataclass(frozen=True)
class Artifact:
    """What a file holds: quantized weights by layer (with the names that share them), the other state, metadata."""

    weights: dict[str, QuantizedWeight]
    shared_names: dict[str, tuple[str, ...]]
    state: dict[str, Tensor]
    metadata: dict[str, Any]


def load(path: str | os.PathLike[str], model: nn.Module | Callable[[], nn.Module] | None = None) -> nn.Module:
    """The model of an artifact, in evaluation mode, with ordinary (decoded) weights; where activations were quantized, the
    layers' inputs still are.

    model: needed only where the artifact was made from your own nn.Module: an instance of it (changed in place) or a
    function that makes one. The result has `fairquant_metadata`: classes, preprocessing, plan, recipe, audit.
    Raises UserError for a file that is truncated, altered, foreign, or does not fit the model.
    """
    artifact = read_artifact(path)
    target = _architecture(artifact, model, Path(path))
    put_on(target, artifact.metadata.get("activations", {}), str(path))
    names = dict(target.state_dict(keep_vars=True))
    problems: list[str] = []
    filled: set[str] = set()
    with torch.no_grad():
        for layer, weight in artifact.weights.items():
            for name in artifact.shared_names[layer]:
                problems += _fill(names, f"{name}.weight", weight.decode(), filled)
        for name, value in artifact.state.items():
            problems += _fill(names, name, value, filled)
    ids = {id(names[name]) for name in filled}
    missing = [name for name, value in names.items() if name not in filled and id(value) not in ids]
    problems += [f"{path}: it holds nothing for the model's {name!r}" for name in missing]
    if problems:
        raise UserError(problems[:10], str(path))
    if artifact.metadata["preprocessing"].get("channels_last"):
        target = target.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    target.fairquant_metadata = artifact.metadata  # type: ignore[assignment]
    return target.eval()


def _fill(names: dict[str, Tensor], name: str, value: Tensor, filled: set[str]) -> list[str]:
    if name not in names:
        return [f"the model has no {name!r}"]
    if names[name].shape != value.shape:
        return [f"{name!r} is {tuple(value.shape)} in the file and {tuple(names[name].shape)} in the model"]
    names[name].copy_(value)
    filled.add(name)
    return []


def _architecture(artifact: Artifact, model: nn.Module | Callable[[], nn.Module] | None, path: Path) -> nn.Module:
    if model is not None:
        return model if isinstance(model, nn.Module) else model()
    architecture = artifact.metadata["architecture"]
    if architecture.get("source") != "timm":
        raise UserError(
            f"{path}: this artifact was made from your own nn.Module ({architecture.get('class', '?')}), which the file "
            "does not hold (no pickle). Give it: fairquant.load(path, model=MyModel())"
        )
    from fairquant.models import create

    settings = ModelSettings(
        name=architecture["name"], image_size=architecture["image_size"], options=architecture["options"]
    )
    return create(settings, len(artifact.metadata["classes"]))


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read and verify a file. Raises UserError that names what is wrong with it."""
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    text = _header(content, file)
    if text.get("format") != FORMAT:
        made = text.get("format", "")
        raise UserError(
            f"{file}: its format is {made!r}, this version reads {FORMAT!r}" if made.startswith("fairquant")
            else f"{file}: a safetensors file, but not made by fairquant (no format in its metadata)"
        )  # fmt: skip
    check_seal(content, text.get("checksum", ""), file)
    tensors = load_tensors(content)
    metadata = {key: json.loads(value) for key, value in text.items() if key not in ("format", "checksum")}
    return _decode(tensors, metadata, file)


def _header(content: bytes, file: Path) -> dict[str, str]:
    """The metadata, after checking that the header and the tensors it promises are all there."""
    try:
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        promised = 8 + length + max(ends, default=0)
        text: dict[str, str] = header.get("__metadata__", {})
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{file}: not a safetensors file, or its header is damaged or cut off") from error
    if len(content) != promised:
        what = "cut off" if len(content) < promised else "longer than its header says"
        raise UserError(f"{file}: {what}: {len(content)} bytes, {promised} expected")
    return text


def _decode(tensors: dict[str, Tensor], metadata: dict[str, Any], file: Path) -> Artifact:
    weights, shared = {}, {}
    described = metadata["layers"]
    rows = [entry["shape"][0] for entry in described]
    if described:
        packed = tensors.pop(BITS)
        bits = torch.stack([packed >> 4, packed & 15], 1).flatten()[: sum(rows)].to(torch.int64)
        values = tensors.pop(SCALES)
        scales = torch.split(values[: sum(rows)], rows)
        shifted = [count for count, entry in zip(rows, described, strict=True) if entry["shift"]]
        words = tensors.pop(CODEBOOKS, torch.zeros(0))
        shifts = iter(torch.split(values[sum(rows) :], shifted))
        for entry, widths, scale in zip(described, torch.split(bits, rows), scales, strict=True):
            name, shape = entry["names"][0], tuple(entry["shape"])
            columns = int(torch.Size(shape[1:]).numel())
            coded = bool(entry.get("codebook", False))
            try:
                codes = unpack(tensors.pop(f"{name}.weight").numpy(), widths, columns, coded)
            except (KeyError, ValueError) as error:
                raise UserError(f"{file}: layer {name!r}: {error}") from error
            codebook = None
            if coded:
                codebook, words = _codebook(widths, words)
            shift = next(shifts) if entry["shift"] else None
            weights[name] = QuantizedWeight(codes, widths, scale, shape, shift, codebook)
            shared[name] = tuple(entry["names"])
    return Artifact(weights, shared, tensors, metadata)


def _codebook(bits: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The next layer's codebook [9, 256] and the words left for those after it."""
    codebook = torch.zeros(9, 256)
    for width in widths_of(bits):
        codebook[width, : 2**width], words = words[: 2**width], words[2**width :]
    return codebook, words
