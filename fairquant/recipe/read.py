"""Read a recipe: file, method preset and overrides merged, everything checked, every problem reported at once.

Who wins, from weak to strong: defaults, the method preset, the recipe file, the command line. A method chosen on the
command line in place of the file's own replaces the role sections that the file wrote for its method, and its budget
where the preset brings one (uniform-4 is 4 bits).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairquant.errors import UserError, suggestion
from fairquant.recipe.build import build
from fairquant.recipe.lines import line_of, parse_yaml
from fairquant.recipe.presets import library
from fairquant.recipe.schema import (
    ALL_KEYS,
    BASELINE_DEFAULTS,
    DEFAULT_METRICS,
    LIST_SECTIONS,
    PLAIN_SECTIONS,
    ROLE_SECTIONS,
    Component,
    Recipe,
)
from fairquant.recipe.search import read_search, try_out
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


def read_recipe(
    recipe: str | os.PathLike[str], overrides: Sequence[str] = (), *, registry: Registry, demo: bool = False,
    searching: bool = False,
) -> Recipe:  # fmt: skip
    """Read a recipe file with `key=value` overrides. Raises UserError with every problem found.

    searching: check the search section and all of its values too; a single run, of another method perhaps, has no use
    for it.
    """
    file = library(registry).find(recipe)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    content, lines, problems = parse_yaml(text, str(file))
    return recipe_from(
        content,
        overrides,
        registry=registry,
        source=str(file),
        lines=lines,
        name=file.stem,
        demo=demo,
        problems=problems,
        searching=searching,
    )


def recipe_from(
    content: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    registry: Registry,
    source: str = "recipe",
    lines: dict[str, int] | None = None,
    name: str = "recipe",
    demo: bool = False,
    problems: list[str] | None = None,
    searching: bool = False,
) -> Recipe:
    """Resolve plain data into a Recipe."""
    lines, found = lines or {}, list(problems or [])
    given, override_problems = _overrides(overrides)
    found += override_problems
    report = _Reporter(source, lines, given)
    for owner in (content, given):
        for key in owner:
            if key not in ALL_KEYS:
                found.append(report(str(key), f"unknown key.{suggestion(str(key), ALL_KEYS)}"))
    merged, notes, method_problems = _merge(dict(content), given, demo, registry)
    found += [report(key, text) for key, text in method_problems]
    placed: list[tuple[str, str]] = []
    recipe = _assemble(merged, registry, name, demo, tuple(notes), placed)
    if recipe is not None and recipe.search and searching:
        _check_search(recipe, content, overrides, registry, demo, placed)
    found += [report(key, text) for key, text in placed]
    if found or recipe is None:
        raise UserError(list(dict.fromkeys(found)), source)
    return recipe


def _check_search(
    recipe: Recipe, content: Mapping[str, Any], overrides: Sequence[str], registry: Registry, demo: bool,
    problems: list[tuple[str, str]],
) -> None:  # fmt: skip
    """The section itself, then every value that it may choose."""
    search = read_search(recipe.search, tuple(component.label for component in recipe.metrics), problems)
    if search is None:
        return
    plain = {key: value for key, value in content.items() if key != "search"}

    def resolve(more: list[str]) -> list[tuple[str, str]]:
        try:
            given, _ = _overrides([*overrides, *with_lists(recipe, more)])
            given.pop("search", None)
            merged, _, wrong = _merge(dict(plain), given, demo, registry)
            found = [*wrong, *((key, "unknown key") for key in given if key not in ALL_KEYS)]
            _assemble(merged, registry, recipe.name, demo, (), found)
        except UserError as error:
            return [(error.where or "recipe", error.problems[0])]
        return found

    problems += try_out(search, resolve)


def with_lists(recipe: Recipe, overrides: Sequence[str]) -> list[str]:
    """Overrides in which `regularizers.NAME.key=value` and `metrics.NAME.key=value` are the whole list, changed."""
    plain, lists = [], {section: recipe.to_dict()[section] for section in LIST_SECTIONS}
    changed = set()
    for override in overrides:
        path, _, value = override.partition("=")
        section, _, rest = path.partition(".")
        name, _, key = rest.rpartition(".")
        if section not in LIST_SECTIONS or not name:
            plain.append(override)
            continue
        found = [each for each in lists[section] if each["name"] == name]
        if not found:
            known = ", ".join(each["name"] for each in lists[section]) or "none"
            raise UserError(f"the recipe lists no {LIST_SECTIONS[section]} {name!r}. Listed: {known}", path)
        for each in found:
            each[key] = json.loads(value)
        changed.add(section)
    return [*plain, *(f"{section}={json.dumps(lists[section])}" for section in sorted(changed))]


class _Reporter:
    """`file:line: key: problem`, or `command line: key: problem` for what was given there."""

    def __init__(self, source: str, lines: dict[str, int], given: Mapping[str, Any]) -> None:
        self.source, self.lines, self.given = source, lines, given

    def __call__(self, key: str, text: str) -> str:
        at: Any = self.given
        for part in key.split("."):
            if not isinstance(at, dict) or part not in at:
                break
            at = at[part]
        else:
            return f"command line: {key}: {text}"
        line = line_of(key, self.lines)
        return f"{self.source}:{line}: {key}: {text}" if line else f"{self.source}: {key}: {text}"


def _overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
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


def _merge(
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


def _assemble(
    merged: dict[str, Any], registry: Registry, name: str, demo: bool, notes: tuple[str, ...],
    problems: list[tuple[str, str]],
) -> Recipe | None:  # fmt: skip
    values: dict[str, Any] = {}
    seed = merged["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        problems.append(("seed", f"expected a whole number of at least 0, got {seed!r}"))
    for section, cls in PLAIN_SECTIONS.items():
        given = merged.get(section)
        values[section] = build(cls, {} if given is None else given, section, section, problems)
    for section, optional in ROLE_SECTIONS.items():
        values[section] = _component(section, section, merged.get(section), optional, registry, problems)
    for section, role in LIST_SECTIONS.items():
        listed = merged.get(section) or []
        if not isinstance(listed, list):
            problems.append((section, f"expected a list, got {listed!r}"))
            listed = []
        built = [_component(role, f"{section}[{n}]", each, False, registry, problems) for n, each in enumerate(listed)]
        values[section] = tuple(component for component in built if component is not None)
        labels = [component.label for component in values[section]]
        for label in sorted({label for label in labels if labels.count(label) > 1}):
            problems.append((section, f"{label!r} is listed twice"))
    search = merged.get("search") or {}
    if not isinstance(search, dict):
        problems.append(("search", f"expected a mapping, got {search!r}"))
    if not problems:
        _across(values, problems)
    if problems:
        return None
    return Recipe(name=name, seed=seed, method=str(merged["method"]), search=search, demo=demo, notes=notes, **values)


def _component(
    role: str, path: str, given: Any, optional: bool, registry: Registry, problems: list[tuple[str, str]]
) -> Component | None:
    if given is None:
        if not optional:
            problems.append((path, f"a recipe needs a {role}. Known: {', '.join(registry.names(role))}"))
        return None
    options = {"name": given} if isinstance(given, str) else given
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        problems.append(
            (path, f"expected a name with options, such as {{name: {registry.names(role)[0]}}}, got {given!r}")
        )
        return None
    name = options["name"]
    try:
        cls = registry.load(role, name)
    except UserError as error:
        problems.append((f"{path}.name", str(error)))
        return None
    rest = {key: value for key, value in options.items() if key != "name"}
    value = build(cls, rest, path, f"{role} {name!r}", problems)
    return None if value is None else Component(name, value)


def _across(values: dict[str, Any], problems: list[tuple[str, str]]) -> None:
    """What no section can check by itself."""
    quantize, budget = values["quantize"], values["budget"]
    if values["quantizer"] is not None:
        if values["allocator"] is None:
            problems.append(("allocator", "a quantizer needs an allocator"))
        least = min([*quantize.choices, *quantize.pin.values()])
        if budget.average_bits is not None and budget.average_bits < least:
            problems.append(
                ("budget.average_bits", f"{budget.average_bits:g} is below the smallest of quantize.choices, {least}")
            )
        widths = getattr(values["quantizer"].value, "widths", range(9))  # a quantizer may name those it has
        strange = [bits for bits in (*quantize.choices, *quantize.pin.values()) if bits not in widths]
        if strange:
            problems.append(
                (
                    "quantize.choices",
                    f"quantizer {values['quantizer'].name!r} has no width {strange[0]}. Set [{', '.join(map(str, widths))}]",
                )
            )
        objections = getattr(values["allocator"].value if values["allocator"] else None, "objections", None)
        if objections is not None:  # what an allocator can say before anything is measured
            problems.extend(objections(budget.average_bits or 8.0, tuple(quantize.choices)))
    if values["train"].post_training is False and values["train"].epochs == 0:
        problems.append(("train.epochs", "0 epochs: set train.post_training: true to quantize without training"))
