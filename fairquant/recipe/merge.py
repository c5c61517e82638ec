"""Precedence: defaults, the method preset, the file, `key=value` on the command line; --demo in between. OmegaConf merges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairquant.errors import UserError
from fairquant.recipe.lines import Content
from fairquant.recipe.presets import library
from fairquant.recipe.schema import BASELINE_DEFAULTS, DEFAULT_METRICS, ROLE_SECTIONS
from fairquant.registry.build import Problems
from fairquant.registry.registry import Registry

METHOD_SECTIONS = ("importance", "reducer", "allocator", "quantizer", "regularizers")
DEFAULTS: Content = {
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
DEMO: Content = {
    "dataset": {"name": "synthetic-lesions", "images": 300},
    "model": {"pretrained": False, "weights": None},
    "baseline": {"epochs": 2, "batch_size": 32},
    "calibration": {"images": 64, "batch_size": 32},
    "train": {"epochs": 2, "batch_size": 32},
}
RESOLVER = re.compile(r"\$\{[^}]*:")


def read_overrides(overrides: Sequence[str]) -> tuple[Content, list[str]]:
    """`key=value` arguments as nested data, and what is wrong with any of them."""
    problems = []
    good = []
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            problems.append(f"command line: {override!r} is not key=value, such as budget.average_bits=4")
        else:
            good.append(override)
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(good), resolve=False)
    except (OmegaConfBaseException, ValueError) as error:
        return {}, [*problems, f"command line: {str(error).splitlines()[0]}"]
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}, problems


def merge(content: Content, given: Content, demo: bool, registry: Registry) -> tuple[Content, list[str], Problems]:
    """Defaults < preset < file < command line: the merged sections, notes for the user, and problems by key.

    `${section.key}` in a value stands for another key of the merged recipe; see `resolver_calls` for what is refused.
    """
    own = content.get("method", DEFAULTS["method"])
    method = given.get("method", own)
    notes: list[str] = []
    try:
        preset = library(registry).load_method(str(method))
    except UserError as error:
        merged, problems = _resolve(_merge(DEFAULTS, content, given))
        return merged, notes, [("method", str(error)), *problems]
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
    merged, problems = _resolve(_merge(*layers, given))
    return merged, notes, problems


def _demo_size(file: Content) -> int:
    model = file.get("model") or {}
    own = model.get("image_size", 224)
    if "tiny_vit" in str(model.get("name", "")) or not isinstance(own, int):
        return 224  # TinyViT's windows need this size
    return min(own, 64)


def _merge(*layers: Mapping[str, Any]) -> Content:
    """Merge mappings key by key; lists replace, and a role section that changes its name starts afresh."""
    merged = OmegaConf.create({})
    for layer in layers:
        for key in ROLE_SECTIONS:
            old, new = merged.get(key), layer.get(key)
            if (
                isinstance(old, DictConfig)
                and isinstance(new, Mapping)
                and new.get("name", old.get("name")) != old.get("name")
            ):
                merged[key] = None
        merged = OmegaConf.merge(merged, dict(layer))
    content = OmegaConf.to_container(merged, resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _resolve(content: Content) -> tuple[Content, Problems]:
    """The content with `${section.key}` replaced by what stands there."""
    problems: Problems = []
    config = OmegaConf.create(content)
    resolved: Content = {}
    for key in content:
        try:
            value = config[key]
            is_container = OmegaConf.is_config(value)
            resolved[key] = OmegaConf.to_container(value, resolve=True) if is_container else value
        except OmegaConfBaseException as error:
            problems.append((error.full_key or key, str(error).splitlines()[0]))
            resolved[key] = None
    return resolved, problems


def resolver_calls(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Problems, by key: every text that calls a resolver, such as `${oc.env:HOME}`. They are refused: a recipe, and what is
    made of it, must not depend on the environment, nor reveal it."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from resolver_calls(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from resolver_calls(each, f"{path}[{number}]")
    elif isinstance(value, str) and RESOLVER.search(value):
        yield (
            path,
            f"{value!r} calls a resolver, which recipes do not allow (no environment variables). "
            "Write the value itself, or refer to another key, such as ${seed}",
        )
