"""Whether a component leaves what it is given as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor

from fairquant.errors import PluginFailed


@contextmanager
def unchanged(given: object, who: str) -> Iterator[None]:
    """Raises PluginFailed where the block writes into a tensor of the dataclass `given`, or leaves gradients turned off."""
    tensors = {field.name: getattr(given, field.name) for field in fields(given)}  # type: ignore[arg-type]  # any dataclass
    before = {name: value._version for name, value in tensors.items() if isinstance(value, Tensor)}
    enabled = torch.is_grad_enabled()
    yield
    changed = [name for name, version in before.items() if tensors[name]._version != version]
    if changed:
        raise PluginFailed(f"{who} wrote into {', '.join(changed)}, which others read after it: write into a copy")
    if torch.is_grad_enabled() != enabled:
        torch.set_grad_enabled(enabled)
        raise PluginFailed(f"{who} left gradients turned {'off' if enabled else 'on'}: use `with torch.no_grad():`")
