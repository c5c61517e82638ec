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


UNTRAINED = "-ptq"


def method_names() -> list[str]:
    """Every preset, and of each that quantizes the same without training, `NAME-ptq`."""
    names = {file.stem for file in (recipes_folder() / "methods").glob("*.yaml")}
    return sorted(names | {f"{name}{UNTRAINED}" for name in names if name != "fp32"})


def load_method(name: str) -> dict[str, Any]:
    """The sections that a method preset fills. `NAME-ptq` is NAME as post-training quantization: nothing is trained."""
    if name not in (names := method_names()):
        known = ", ".join(known for known in names if not known.endswith(UNTRAINED))
        raise UserError(f"no method is called {name!r}.{suggestion(name, names)} Known: {known}; NAME-ptq: untrained")
    file = recipes_folder() / "methods" / f"{name.removesuffix(UNTRAINED)}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text()) or {}
    if not name.endswith(UNTRAINED):
        return content
    return {key: value for key, value in content.items() if key != "regularizers"} | {"train": {"post_training": True}}
