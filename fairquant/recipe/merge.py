"""Precedence: defaults, the method preset, the file, `key=value` on the command line; --demo in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairquant.errors import UserError
from fairquant.recipe.bounded import TooLarge, check_aliases, check_size
from fairquant.recipe.lines import Content, octal
from fairquant.recipe.presets import library
from fairquant.recipe.references import resolve_references
from fairquant.recipe.schema import (
    BASELINE_DEFAULTS,
    DEFAULT_METRICS,
    PLAIN_SECTIONS,
    ROLE_SECTIONS,
    plain_fields,
)
from fairquant.registry.build import Problems
from fairquant.registry.registry import Registry

METHOD_SECTIONS = ("importance", "reducer", "allocator", "quantizer", "rounding", "regularizers")
DEFAULTS: Content = {
    "seed": 0,
    "method": "fq-baq",
    "protect": "groups",
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


#: Before the name of a layer on the command line.
PIN = "quantize.pin."
#: Sections that may name classes, which synthetic data do not have.
NAMES_CLASSES = ("protect", "operating_point", "accept")


def read_overrides(overrides: Sequence[str]) -> tuple[Content, list[str]]:
    """`key=value` arguments as nested data, and what is wrong with any of them."""
    problems = []
    good = []
    pins: dict[str, object] = {}
    for override in overrides:
        key, equals, value = (part.strip(" ") for part in override.partition("="))
        if not equals or not all(part and part.isprintable() for part in key.split(".")):
            problems.append(f"command line: {override!r} is not key=value, such as budget.average_bits=4")
            continue
        if wrong := _unreadable(value):
            problems.append(f"command line: {key}: {wrong}")
            continue
        if key.startswith(PIN) and key != PIN:  # what follows is the name of a layer, with its dots
            pins[key.removeprefix(PIN).strip("\"'")] = yaml.safe_load(value)
            continue
        try:
            OmegaConf.from_dotlist([override])
            good.append(override)
        except (OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
            problems.append(f"command line: {override!r}: {' '.join(str(error).split())}")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(good), resolve=False)
    except (OmegaConfBaseException, ValueError) as error:  # two that do not go together, such as a=1 and a.b=2
        return {}, [*problems, f"command line: {str(error).splitlines()[0]}"]
    assert isinstance(parsed, dict)
    given = {str(key): value for key, value in parsed.items()}
    if pins:
        section = given.setdefault("quantize", {})
        pin = section.setdefault("pin", {}) if isinstance(section, dict) else section
        if not isinstance(section, dict) or not isinstance(pin, dict | None):
            problems.append(
                f"command line: {PIN}{next(iter(pins))}: {PIN[:-1]} or quantize is given another value as well: {pin!r}"
            )
        else:
            section["pin"] = {**(pin or {}), **pins}
    return given, problems


def _unreadable(value: str) -> str:
    """What is wrong with the text of a value; "" where it can be read, all of it."""
    try:
        check_size(value)
        node = yaml.compose(value, Loader=yaml.SafeLoader)
        check_aliases(node)
        yaml.safe_load(value)
    except TooLarge as error:
        return error.problem
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        return (
            f"{value!r} cannot be read: {problem}. Is a bracket or a quotation mark not closed? A text with special characters "
            "is written in quotation marks"
        )
    rest = value if node is None else value[node.end_mark.index :].strip()
    if value and isinstance(node, yaml.ScalarNode) and not node.value and node.tag.endswith(":null"):
        return f"{value!r} would be read as nothing. Write a text in quotation marks: {quoted(value)}"
    if rest.startswith("#"):
        return f"{rest!r} would be read as a comment. Write the text in quotation marks: {quoted(value)}"
    return octal(node)


def quoted(text: str) -> str:
    """A text as it is written on a command line so that it arrives in quotation marks."""
    return "'\"" + text.replace("\\", "\\\\").replace('"', '\\"') + "\"'"


def merge(content: Content, given: Content, demo: bool, registry: Registry) -> tuple[Content, list[str], Problems]:
    """Defaults < preset < file < command line: the merged sections, notes for the user, and problems by key.

    `${section.key}` in a value stands for another key of the merged recipe; see `references`.
    """
    own = content.get("method", DEFAULTS["method"])
    method = given.get("method", own)
    notes: list[str] = []
    try:
        if "${" in str(method):
            raise UserError("must be written out: what a reference stands for depends on it")
        preset = library(registry).load_method(str(method))
    except UserError as error:
        merged, problems = _resolve(_merge(DEFAULTS, content, given) | {"method": DEFAULTS["method"]})
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
        named = [key for key in NAMES_CLASSES if key in file]
        layers[2] = {key: value for key, value in file.items() if key not in ("dataset", *named)}
        if named:
            notes.append(f"DEMO: left out {', '.join(named)}, which may name classes of the recipe's own data")
    merged, problems = _resolve(_merge(*layers, given))
    return merged, notes, problems


def _demo_size(file: Content) -> int:
    model = file.get("model")
    if not isinstance(model, Mapping):
        return 64
    own = model.get("image_size", 224)
    if "tiny_vit" in str(model.get("name", "")) or not isinstance(own, int):
        return 224  # TinyViT's windows need this size
    return min(own, 64)


def _resolve(content: Content) -> tuple[Content, Problems]:
    """A reference may also be to a key that the recipe leaves at its default."""
    return resolve_references(
        content, _merge({key: plain_fields(cls()) for key, cls in PLAIN_SECTIONS.items()}, content)
    )


def _merge(*layers: Mapping[str, Any]) -> Content:
    """Merge mappings key by key; anything else replaces, and a role section that changes its name starts afresh."""
    merged: Content = {}
    for layer in layers:
        for key, new in layer.items():
            old = merged.get(key)
            renamed = (
                key in ROLE_SECTIONS
                and isinstance(old, Mapping)
                and isinstance(new, Mapping)
                and new.get("name", old.get("name")) != old.get("name")
            )
            merged[str(key)] = new if renamed else _merged(old, new)
    return merged


def _merged(old: object, new: object) -> object:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
