"""Checkpoints: everything a training needs to resume, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from fairquant.files import write_atomically

#: State dicts, numbers and lists: what `torch.load(weights_only=True)` can read back.
Content = dict[str, Any]


def save_checkpoint(path: Path, content: Content) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> Content | None:
    """The content, or None where there is no usable checkpoint. No code in the file is run."""
    if not path.is_file():
        return None
    try:
        content: Content = torch.load(path, map_location=device, weights_only=True)
        return content
    except Exception:
        path.replace(path.with_suffix(".broken"))
        return None
