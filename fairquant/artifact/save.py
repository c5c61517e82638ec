"""Write a quantized model as a small file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from fairquant.artifact.finite import finite_problems, listed, value_problem
from fairquant.artifact.format import BITS, BLANK, CODEBOOKS, FORMAT, SCALES, seal, widths_of
from fairquant.bits.packing import pack, pack_nibbles
from fairquant.errors import NotFinite
from fairquant.files import write_atomically
from fairquant.recipe.events import ArtifactReport
from fairquant.roles import Layer, QuantizedWeight


def save_artifact(
    path: Path, model: nn.Module, layers: tuple[Layer, ...], weights: Mapping[str, QuantizedWeight],
    metadata: Mapping[str, object],
) -> ArtifactReport:  # fmt: skip
    """Write `model` (with or without its quantizers) to `path`; returns {path, bytes, sha256}. Raises NotFinite for a model with
    values that are not finite numbers: none is written."""
    problems = finite_problems(model)
    problems += [
        f"the weight of {name!r} {problem}"
        for name, stored in weights.items()
        if (problem := value_problem(stored.decode()))
    ]
    if problems:
        raise NotFinite(f"no artifact is written: {listed(problems)}")
    content = artifact_content(model, layers, weights, metadata)
    write_atomically(path, content)
    return {"path": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def artifact_content(
    model: nn.Module, layers: tuple[Layer, ...], weights: Mapping[str, QuantizedWeight], metadata: Mapping[str, object]
) -> bytes:
    """The file. metadata: architecture, classes, preprocessing, recipe, audit, ... each JSON; read back by
    `fairquant.load`."""
    tensors: dict[str, Tensor] = {}
    described = []
    bits, scales, shifts, codewords = [], [], [], []
    for layer in layers:
        stored = weights[layer.name]
        tensors[layer.parameters[0]] = torch.from_numpy(pack(stored))
        bits.append(stored.bits.cpu())
        scales.append(stored.scale.float().cpu())
        if stored.shift is not None:
            shifts.append(stored.shift.float().cpu())
        if stored.codebook is not None:
            codewords += [stored.codebook[width, : 2**width].float().cpu() for width in widths_of(stored.bits)]
        described.append({
            "names": list(layer.names), "shape": list(stored.shape), "shift": stored.shift is not None,
            "codebook": stored.codebook is not None, **({"paths": list(layer.paths)} if layer.paths else {}),
        })  # fmt: skip
    if layers:
        tensors[BITS] = torch.from_numpy(pack_nibbles(torch.cat(bits).to(torch.uint8).numpy(), low_first=False))
        tensors[SCALES] = torch.cat([*scales, *shifts])
    if codewords:
        tensors[CODEBOOKS] = torch.cat(codewords)
    tensors |= unquantized_state(model, layers)
    text = {key: json.dumps(value, sort_keys=True, separators=(",", ":")) for key, value in metadata.items()}
    text |= {"format": FORMAT, "checksum": BLANK, "layers": json.dumps(described, separators=(",", ":"))}
    return seal(save({name: tensor.contiguous() for name, tensor in tensors.items()}, text))


def unquantized_state(model: nn.Module, layers: tuple[Layer, ...]) -> dict[str, Tensor]:
    """Parameters and buffers outside the layers' weights, [...], under the plain model's names; tied ones once."""
    quantized = {path for layer in layers for path in layer.parameters}
    state: dict[str, Tensor] = {}
    seen = {id(layer.weight) for layer in layers}
    named = [*model.named_parameters(remove_duplicate=False), *persistent_buffers(model)]
    for name, tensor in named:
        if name in quantized or ".parametrizations." in f".{name}" or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        state[name] = tensor.detach().cpu()
    return state


def persistent_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers [...] that belong to the state dict, with their names."""
    state = model.state_dict(keep_vars=True)
    return [(name, buffer) for name, buffer in model.named_buffers(remove_duplicate=False) if name in state]
