"""Who wins: defaults, the method preset, the file, `key=value` on the command line; --demo in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairquant.errors import UserError
from fairquant.recipe.presets import library
from fairquant.recipe.schema import BASELINE_DEFAULTS, DEFAULT_METRICS, ROLE_SECTIONS
from fairquant.registry import Registry

METHOD_SECTIONS = ("importance", "reducer", "allocator", "quantizer", "regularizers")
DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "method": "fq-baq",
    "baseline": BASELINE_DEFAULTS,
    "importance": {"name": "fisher"},
    "reducer": {"name": "max"},
    "allocator": {"name": "knapsack"},
    "quantizer": {"name": "uniform"},
    "regularizers": [],
    "metrics": list(DEFAULT_METRICS),
}
#: What --demo puts in place of the recipe's data and long trainings.
DEMO: dict[str, Any] = {
    "dataset": {"name": "synthetic-lesions", "images": 300},
    "model": {"pretrained": False, "weights": None},
    "baseline": {"epochs": 2, "batch_size": 32},
    "calibration": {"images": 64, "batch_size": 32},
    "train": {"epochs": 2, "batch_size": 32},
}


def read_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    problems = []
    good = []
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            problems.append(f"command line: {override!r} is not key=value, such as budget.average_bits=4")
        else:
            good.append(override)
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(good), resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        return {}, [*problems, f"command line: {str(error).splitlines()[0]}"]
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}, problems


def merge(
    content: dict[str, Any], given: dict[str, Any], demo: bool, registry: Registry
) -> tuple[dict[str, Any], list[str], list[tuple[str, str]]]:
    """Defaults < preset < file < command line."""
    own = content.get("method", DEFAULTS["method"])
    method = given.get("method", own)
    notes: list[str] = []
    try:
        preset = library(registry).load_method(str(method))
    except UserError as error:
        return _layers(DEFAULTS, content, given), notes, [("method", str(error))]
    file = dict(content)
    if "method" in given and method != own:
        replaced = [key for key in METHOD_SECTIONS if key in file]
        if "budget" in preset and "budget" in file:
            replaced.append("budget")
        for key in replaced:
            del file[key]
        if replaced:
            notes.append(f"method={method} replaces the recipe's own {', '.join(replaced)}")
    layers = [DEFAULTS, preset, file]
    if demo:
        layers.append(DEMO | {"model": DEMO["model"] | {"image_size": _demo_size(file)}})
        notes.append("DEMO: synthetic images and a few epochs; the numbers mean nothing")
        layers[2] = {key: value for key, value in file.items() if key != "dataset"}
    return _layers(*layers, given), notes, []


def _demo_size(file: dict[str, Any]) -> int:
    model = file.get("model") or {}
    own = model.get("image_size", 224)
    if "tiny_vit" in str(model.get("name", "")) or not isinstance(own, int):
        return 224  # TinyViT's windows are made for one size
    return min(own, 64)


def _layers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge; a role section that changes its name starts afresh, lists replace."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = key in ROLE_SECTIONS and "name" in value and value["name"] != old.get("name")
                merged[key] = dict(value) if renamed else _deep(dict(old), value)
            else:
                merged[key] = dict(value) if isinstance(value, Mapping) else value
    return merged


def _deep(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in new.items():
        here = old.get(key)
        old[key] = _deep(dict(here), value) if isinstance(value, Mapping) and isinstance(here, Mapping) else value
    return old
