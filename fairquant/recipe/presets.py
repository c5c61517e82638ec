"""Where recipes and method presets lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fairquant.errors import UserError, suggestion


def recipes_folder() -> Path:
    """`recipes/` of the checkout (editable install) or of the installed package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    folder = recipes_folder()
    return sorted(str(file.relative_to(folder)) for file in folder.glob("*.yaml"))


def method_names() -> list[str]:
    return sorted(file.stem for file in (recipes_folder() / "methods").glob("*.yaml"))


def load_method(name: str) -> dict[str, Any]:
    """The sections that a method preset fills."""
    file = recipes_folder() / "methods" / f"{name}.yaml"
    if name not in method_names():
        names = method_names()
        raise UserError(f"no method is called {name!r}.{suggestion(name, names)} Known: {', '.join(names)}")
    content: dict[str, Any] = yaml.safe_load(file.read_text()) or {}
    return content
