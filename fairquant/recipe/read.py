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

from fairquant.errors import UserError, suggestion
from fairquant.recipe.across import across
from fairquant.recipe.build import build
from fairquant.recipe.lines import line_of, parse_yaml
from fairquant.recipe.merge import merge, read_overrides
from fairquant.recipe.presets import library
from fairquant.recipe.schema import (
    ALL_KEYS,
    LIST_SECTIONS,
    PLAIN_SECTIONS,
    ROLE_SECTIONS,
    Component,
    Recipe,
)
from fairquant.recipe.search import read_search, try_out
from fairquant.registry import Registry


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
    given, override_problems = read_overrides(overrides)
    found += override_problems
    report = _Reporter(source, lines, given)
    for owner in (content, given):
        for key in owner:
            if key not in ALL_KEYS:
                found.append(report(str(key), f"unknown key.{suggestion(str(key), ALL_KEYS)}"))
    merged, notes, method_problems = merge(dict(content), given, demo, registry)
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
            given, _ = read_overrides([*overrides, *with_lists(recipe, more)])
            given.pop("search", None)
            merged, _, wrong = merge(dict(plain), given, demo, registry)
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
        across(values, problems)
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
