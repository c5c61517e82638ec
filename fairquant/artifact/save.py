"""Write a quantized model as a small file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from fairquant.artifact.format import BITS, BLANK, CODEBOOKS, FORMAT, SCALES, seal, widths_of
from fairquant.bits.packing import pack
from fairquant.files import write_atomically
from fairquant.roles import Layer, QuantizedWeight


def save_artifact(
    path: Path, model: nn.Module, layers: tuple[Layer, ...], weights: Mapping[str, QuantizedWeight],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write `model` (its quantizers attached or taken off) to `path`; returns {path, bytes, sha256}."""
    content = artifact_content(model, layers, weights, metadata)
    write_atomically(path, content)
    return {"path": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def artifact_content(
    model: nn.Module, layers: tuple[Layer, ...], weights: Mapping[str, QuantizedWeight], metadata: Mapping[str, Any]
) -> bytes:
    """The file. metadata: architecture, classes, preprocessing, recipe, audit, ... each JSON; read back by
    `fairquant.load`."""
    tensors: dict[str, Tensor] = {}
    described = []
    bits, scales, shifts, words = [], [], [], []
    for layer in layers:
        stored = weights[layer.name]
        tensors[f"{layer.name}.weight"] = torch.from_numpy(pack(stored))
        bits.append(stored.bits.cpu())
        scales.append(stored.scale.float().cpu())
        if stored.shift is not None:
            shifts.append(stored.shift.float().cpu())
        if stored.codebook is not None:
            words += [stored.codebook[width, : 2**width].float().cpu() for width in widths_of(stored.bits)]
        described.append({
            "names": list(layer.names), "shape": list(stored.shape), "shift": stored.shift is not None,
            "codebook": stored.codebook is not None,
        })  # fmt: skip
    if layers:
        tensors[BITS] = nibbles(torch.cat(bits))
        tensors[SCALES] = torch.cat([*scales, *shifts])
    if words:
        tensors[CODEBOOKS] = torch.cat(words)
    tensors |= unquantized_state(model, layers)
    text = {key: json.dumps(value, sort_keys=True, separators=(",", ":")) for key, value in metadata.items()}
    text |= {"format": FORMAT, "checksum": BLANK, "layers": json.dumps(described, separators=(",", ":"))}
    return seal(save({name: tensor.contiguous() for name, tensor in tensors.items()}, text))


def unquantized_state(model: nn.Module, layers: tuple[Layer, ...]) -> dict[str, Tensor]:
    """Parameters and buffers outside the layers' weights, under the plain model's names; tied ones once."""
    quantized = {f"{name}.weight" for layer in layers for name in layer.names}
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    named = [*model.named_parameters(remove_duplicate=False), *persistent_buffers(model)]
    for name, tensor in named:
        if name in quantized or ".parametrizations.weight." in f".{name}" or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        found[name] = tensor.detach().cpu()
    return found


def persistent_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that belong to the state dict."""
    state = model.state_dict(keep_vars=True)
    return [(name, buffer) for name, buffer in model.named_buffers(remove_duplicate=False) if name in state]


def nibbles(bits: Tensor) -> Tensor:
    """Values 0..8, two to a byte."""
    values = bits.to(torch.uint8).numpy()
    values = np.append(values, np.zeros(len(values) % 2, np.uint8)).reshape(-1, 2)
    return torch.from_numpy((values[:, 0] << 4 | values[:, 1]).astype(np.uint8))


def weight_bytes(weights: Mapping[str, QuantizedWeight]) -> int:
    """Bytes of all packed codes."""
    return sum(len(pack(weight)) for weight in weights.values())
