"""The header of an artifact, checked before any memory is allocated for it.

A checksum detects damage, not intent: whoever makes a file can seal it. So nothing in the header is trusted: shapes must be
integers, bounded and backed by as many bits as they claim; options must not lead to other files or networks.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairquant.artifact.format import BITS, CODEBOOKS, FORMAT, SCALES, check_seal
from fairquant.artifact.metadata import check_metadata
from fairquant.errors import UserError
from fairquant.files import check_regular

#: More than any classifier of images needs: bytes of a file, weights of a model (a pruned one takes no bytes).
MOST_BYTES, MOST_WEIGHTS = 4 << 30, 1 << 29
NEEDED = ("architecture", "classes", "preprocessing", "layers")


@dataclass(frozen=True, kw_only=True)
class LayerHeader:
    """One quantized layer as the header describes it."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    shape: tuple[int, ...]
    shift: bool
    codebook: bool

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def columns(self) -> int:
        return math.prod(self.shape[1:])


@dataclass(frozen=True, kw_only=True)
class Header:
    """content: the whole file; entries: tensor name -> dtype, shape and place; the rest read from the metadata."""

    path: Path
    content: bytes
    metadata: dict[str, Any]  # JSON: any type until `read_header` has checked it
    layers: tuple[LayerHeader, ...]
    entries: dict[str, dict[str, Any]]  # JSON, as above

    @property
    def values(self) -> int:
        """Parameters and buffers that the file holds."""
        packed = {BITS, SCALES, CODEBOOKS, *(layer.paths[0] for layer in self.layers)}
        unquantized: int = sum(math.prod(entry["shape"]) for name, entry in self.entries.items() if name not in packed)
        return unquantized + sum(layer.rows * layer.columns for layer in self.layers)


def read_header(path: Path) -> Header:
    """The header of a file that is complete, unaltered, ours and consistent. UserError that names what is wrong."""
    content = read_bounded(path)
    entries, text = _parsed(content, path)
    if text.get("format") != FORMAT:
        made = text.get("format", "")
        raise UserError(
            f"{path}: its format is {made!r}, this version reads {FORMAT!r}" if made.startswith("fairquant")
            else f"{path}: holds plain weights, and no quantized model of fairquant (no format in its metadata), such as those of "
            "runs/baselines. A run's own model is runs/<recipe>/<run>/model.safetensors"
        )  # fmt: skip
    check_seal(content, text.get("checksum", ""), path)
    metadata = _metadata(text, path)
    layers = _layers(metadata["layers"], path)
    _backed(entries, layers, path)
    return Header(path=path, content=content, metadata=metadata, layers=layers, entries=entries)


def read_bounded(path: Path) -> bytes:
    """The content of a file of at most MOST_BYTES."""
    try:
        check_regular(path)
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path}: {size / 1e9:.1f} GB is more than a model of this kind can be")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _parsed(content: bytes, path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Tensors and metadata as text, after checking that the tensors promised are all there."""
    try:
        length = struct.unpack("<Q", content[:8])[0]
        entries: dict[str, dict[str, Any]] = json.loads(content[8 : 8 + length])
        text = entries.pop("__metadata__", {})
        promised = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        numbers = [size for entry in entries.values() for size in entry["shape"]]
        if not all(isinstance(size, int) and size >= 0 for size in numbers):
            raise TypeError
        if not all(isinstance(value, str) for value in text.values()):
            raise TypeError
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: not a safetensors file, or its header is damaged or cut off") from error
    if len(content) != promised:
        what = "cut off" if len(content) < promised else "longer than its header says"
        raise UserError(f"{path}: {what}: {len(content)} bytes, {promised} expected")
    return entries, text


def _metadata(text: dict[str, str], path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for key, value in text.items():
        if key in ("format", "checksum"):
            continue
        try:
            metadata[key] = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: its {key} is not JSON") from error
    checked = check_metadata(metadata, path, NEEDED)
    if not isinstance(checked["layers"], list):
        raise UserError(f"{path}: its layers are {type(checked['layers']).__name__}, list expected")
    return checked


def _layers(described: list[Any], path: Path) -> tuple[LayerHeader, ...]:
    layers, weights = [], 0
    for number, entry in enumerate(described):
        if not _is_layer(entry):
            raise UserError(f"{path}: layer {number} is described as {str(entry)[:100]}, which is damaged or refused")
        names = tuple(entry["names"])
        layers.append(
            LayerHeader(
                names=names,
                paths=tuple(entry.get("paths", (f"{name}.weight" for name in names))),
                shape=tuple(entry["shape"]),
                shift=bool(entry.get("shift")),
                codebook=bool(entry.get("codebook")),
            )
        )
        weights += layers[-1].rows * layers[-1].columns
    if weights > MOST_WEIGHTS:
        raise UserError(f"{path}: its layers claim {weights} weights, more than a model of this kind can have")
    return tuple(layers)


def _is_layer(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    names, shape = entry.get("names"), entry.get("shape")
    paths = entry.get("paths", names)
    return (
        isinstance(names, list)
        and isinstance(paths, list)
        and all(isinstance(name, str) for name in (*names, *paths))
        and 0 < len(names) == len(paths)
        and isinstance(shape, list)
        and 2 <= len(shape) <= 16
        and all(isinstance(size, int) and not isinstance(size, bool) and 0 < size < MOST_WEIGHTS for size in shape)
    )


def _backed(entries: dict[str, dict[str, Any]], layers: tuple[LayerHeader, ...], path: Path) -> None:
    """Every row has its width and its scale in the file, every layer its codes, in tensors of the right kind."""
    rows = sum(layer.rows for layer in layers)
    shifted = sum(layer.rows for layer in layers if layer.shift)
    wanted = {BITS: ("U8", [(rows + 1) // 2]), SCALES: ("F32", [rows + shifted])} if layers else {}
    for name, (kind, shape) in wanted.items():
        entry = entries.get(name, {})
        if entry.get("dtype") != kind or entry.get("shape") != shape:
            raise UserError(f"{path}: {name!r} is not {kind} {shape}, as its {len(layers)} layers need")
    for layer in layers:
        entry = entries.get(layer.paths[0], {})
        if entry.get("dtype") != "U8" or len(entry.get("shape", ())) != 1:
            raise UserError(f"{path}: layer {layer.names[0]!r}: no packed codes")
    if any(layer.codebook for layer in layers) and entries.get(CODEBOOKS, {}).get("dtype") != "F32":
        raise UserError(f"{path}: {CODEBOOKS!r} is missing")
