"""Registers the rivals' components."""

from __future__ import annotations

from typing import Any

from fairquant.registry import hookimpl


@hookimpl
def fairquant_register(registry: Any) -> None:
    registry.add("allocator", "uniform", "fairquant_rivals.uniform:UniformBits", "the same bits everywhere")
