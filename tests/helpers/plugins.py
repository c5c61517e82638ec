"""Plugins that exist only in a test: a module in its folder, and the entry point that names it."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

HEAD = "from fairquant.registry import hookimpl\n"
#: What comes before the body of a plugin's `fairquant_register`.
REGISTER = HEAD + "@hookimpl\ndef fairquant_register(registry):\n    "


def entry_point(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str) -> EntryPoint:
    """The entry point `name` of a module with this code."""
    (folder / f"plugin_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop(f"plugin_{name}", None)
    return EntryPoint(name, f"plugin_{name}", "fairquant")


def our_entry_points() -> list[EntryPoint]:
    """Those of this project's own plugins."""
    return [each for each in entry_points(group="fairquant") if each.dist and each.dist.name == "fairquant"]
