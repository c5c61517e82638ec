"""Checkpoints: everything a training needs to resume, written whole or not at all, and for nothing else than it was made for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairquant.files import write_atomically

#: State dicts, numbers and lists: what `torch.load(weights_only=True)` can read back.
Content = dict[str, Any]
SEAL = hashlib.sha256().digest_size


def save_checkpoint(path: Path, content: Content, made_for: str = "") -> None:
    """made_for: a digest of all that the training depends on."""
    buffer = io.BytesIO()
    torch.save({"made_for": made_for, "content": content}, buffer)
    stored = buffer.getvalue()
    write_atomically(path, stored + hashlib.sha256(stored).digest())


def load_checkpoint(path: Path, device: torch.device, made_for: str = "") -> Content | None:
    """The content, or None where there is no usable checkpoint of this training; one that is damaged or of another training is
    put aside. No code in the file is run."""
    if not path.is_file():
        return None
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored[:-SEAL]).digest() != stored[-SEAL:]:
            raise ValueError("damaged")
        found = torch.load(io.BytesIO(stored[:-SEAL]), map_location=device, weights_only=True)
        if found["made_for"] != made_for:
            raise ValueError("of another training")
        content: Content = found["content"]
        return content
    except Exception:
        put_aside(path)
        return None


def put_aside(path: Path) -> None:
    """Out of the way of a new one, where the folder allows it."""
    with suppress(OSError):
        path.replace(path.with_suffix(".broken"))


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values."""
    total = hashlib.sha256()
    for name, value in state.items():
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
