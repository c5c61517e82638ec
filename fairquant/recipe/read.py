"""Read a recipe: file, method preset and overrides merged, everything checked, every problem reported at once.

Precedence, lowest first: defaults, the method preset, the recipe file, the command line. A method chosen on the
command line in place of the file's own replaces the role sections that the file wrote for its method, and its budget
where the preset brings one (uniform-4 is 4 bits).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fairquant.addresses import hidden_in, secret_problems
from fairquant.errors import UserError, suggestion
from fairquant.recipe.accept import read_accept
from fairquant.recipe.bounded import LARGEST_SEED, MOST_TEXT, number_problems
from fairquant.recipe.cross_checks import cross_check
from fairquant.recipe.lines import Content, line_of, parse_yaml
from fairquant.recipe.merge import merge, read_overrides
from fairquant.recipe.presets import library
from fairquant.recipe.references import reference_problems
from fairquant.recipe.schema import ALL_KEYS, LIST_SECTIONS, PLAIN_SECTIONS, Component, Quantization, Recipe
from fairquant.recipe.search import read_search, try_out
from fairquant.recipe.sections import OperatingPointSettings
from fairquant.recipe.selection import read_protect, read_selection
from fairquant.registry.build import Problems, build
from fairquant.registry.registry import (
    ALLOCATOR,
    DATASET,
    IMPORTANCE,
    METRIC,
    QUANTIZER,
    REDUCER,
    REGULARIZER,
    ROUNDING,
    Registry,
    Role,
)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A recipe as plain data: where it comes from, the line of each dotted key, and problems that reading it gave."""

    content: Mapping[str, Any]  # here and below: of any type until it is checked
    source: str
    name: str
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_recipe(
    recipe: str | os.PathLike[str], overrides: Sequence[str] = (), *, registry: Registry, demo: bool = False,
    searching: bool = False,
) -> Recipe:  # fmt: skip
    """Read a recipe file with `key=value` overrides. Raises UserError with every problem.

    searching: check the search section and all of its values too; a single run, of another method perhaps, has no use
    for it.
    """
    file = library(registry).find(recipe)
    try:
        with open(file, encoding="utf-8") as stream:  # a pipe is fine (`<(...)` of a shell), but not without an end
            text = stream.read(MOST_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    content, lines, problems = parse_yaml(text, str(file))
    document = Document(content=content, source=str(file), name=file.stem, lines=lines, problems=tuple(problems))
    return _resolve(document, overrides, registry, demo, searching)


def recipe_from(
    content: Mapping[str, Any], overrides: Sequence[str] = (), *, registry: Registry, source: str = "recipe",
    name: str = "recipe", demo: bool = False,
) -> Recipe:  # fmt: skip
    """Resolve plain data into a Recipe. Raises UserError with every problem."""
    document = Document(content=content, source=source, name=name)
    return _resolve(document, overrides, registry, demo, searching=False)


def _resolve(document: Document, overrides: Sequence[str], registry: Registry, demo: bool, searching: bool) -> Recipe:
    if wrong_name := name_problem(document.name):
        raise UserError(f"{document.source}: {wrong_name}")
    given, override_problems = read_overrides(overrides)
    messages = [*document.problems, *override_problems]
    problems: Problems = []
    for owner in (document.content, given):
        for key in owner:
            if key not in ALL_KEYS:
                hint = suggestion(str(key), ALL_KEYS) or f" Keys: {', '.join(ALL_KEYS)}"
                problems.append((str(key), f"unknown key.{hint}"))
    report = _Reporter(document.source, document.lines, given)
    if wrong := [*reference_problems(document.content), *reference_problems(given)]:
        raise UserError(list(map(hidden_in, [*messages, *(report(key, text) for key, text in wrong)])), document.source)
    merged, notes, merge_problems = merge(dict(document.content), given, demo, registry)
    if wrong := [*number_problems(merged), *secret_problems(merged)]:
        raise UserError(list(map(hidden_in, [*messages, *(report(key, text) for key, text in wrong)])), document.source)
    recipe = _assemble(merged, registry, (document.name, demo, tuple(notes)), problems)
    if recipe is not None and recipe.search and searching:
        _check_search(document.content, overrides, recipe, registry, problems)
    known = {key for key, _ in merge_problems}  # what else is wrong with these values follows from that
    problems = [*merge_problems, *(each for each in problems if each[0] not in known)]
    messages += [report(key, text) for key, text in problems]
    if messages or recipe is None:
        raise UserError(list(dict.fromkeys(map(hidden_in, messages))), document.source)
    return recipe


def _check_search(
    content: Mapping[str, Any], overrides: Sequence[str], recipe: Recipe, registry: Registry, problems: Problems
) -> None:
    """The section itself, then every value that it may choose."""
    search = read_search(recipe.search, tuple(component.label for component in recipe.metrics), problems)
    if search is None:
        return
    without_search = {key: value for key, value in content.items() if key != "search"}

    def resolve(more: list[str]) -> Problems:
        try:
            given, _ = read_overrides([*overrides, *with_lists(recipe, more)])
            given.pop("search", None)
            merged, _, wrong = merge(dict(without_search), given, recipe.demo, registry)
            wrong += [(key, "unknown key") for key in given if key not in ALL_KEYS]
            _assemble(merged, registry, (recipe.name, recipe.demo, ()), wrong)
        except UserError as error:
            return [(error.where or "recipe", error.problems[0])]
        return wrong

    problems += try_out(search, resolve)


def with_lists(recipe: Recipe, overrides: Sequence[str]) -> list[str]:
    """Overrides in which `regularizers.NAME.key=value` and `metrics.NAME.key=value` are the whole list, changed.

    Raises UserError for a component that the recipe does not list.
    """
    plain: list[str] = []
    lists = {section: [each.to_dict() for each in getattr(recipe, section)] for section in LIST_SECTIONS}
    changed = set()
    for override in overrides:
        path, _, value = override.partition("=")
        section, _, rest = path.partition(".")
        name, _, key = rest.rpartition(".")
        if section not in LIST_SECTIONS or not name:
            plain.append(override)
            continue
        named = [each for each in lists[section] if each["name"] == name]
        if not named:
            known = ", ".join(str(each["name"]) for each in lists[section]) or "none"
            raise UserError(f"the recipe lists no {LIST_SECTIONS[section]} {name!r}. Listed: {known}", path)
        for each in named:
            each[key] = json.loads(value)
        changed.add(section)
    return [*plain, *(f"{section}={json.dumps(lists[section])}" for section in sorted(changed))]


def name_problem(name: str) -> str:
    """What is wrong with the name of a recipe, which its runs' folders are called by; "" where nothing is."""
    if (
        not name
        or name.startswith(".")
        or set(name) & set('/\\\0:*?"<>|\n\r\t')
        or len(name.encode(errors="replace")) > 150
    ):
        return f"{name!r} cannot be the name of a folder of runs: use letters, digits, - and _, at most 150"
    return ""


class _Reporter:
    """`file:line: key: problem`, or `command line: key: problem` for what was given there."""

    def __init__(self, source: str, lines: Mapping[str, int], given: Mapping[str, object]) -> None:
        self.source, self.lines, self.given = source, lines, given

    def __call__(self, key: str, text: str) -> str:
        at: object = self.given
        for key_part in key.split("."):
            name, _, _ = key_part.partition("[")  # of an entry of a list, which is given whole
            if not isinstance(at, dict) or not {name, key_part} & at.keys():
                break
            if key_part not in at:
                return f"command line: {key}: {text}"
            at = at[key_part]
        else:
            return f"command line: {key}: {text}"
        line = line_of(key, self.lines)
        return f"{self.source}:{line}: {key}: {text}" if line else f"{self.source}: {key}: {text}"


def _assemble(
    merged: Content, registry: Registry, about: tuple[str, bool, tuple[str, ...]], problems: Problems
) -> Recipe | None:
    """The recipe that the merged sections give, or None where there are problems. about: its name, demo and notes."""
    name, demo, notes = about
    seed = merged["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        problems.append(("seed", f"expected a whole number from 0 to {LARGEST_SEED}, got {seed!r}"))
    protect = read_protect(merged["protect"], problems)
    plain: dict[str, Any] = {  # of the classes that PLAIN_SECTIONS names
        section: build(cls, {} if (given := merged.get(section)) is None else given, section, section, problems)
        for section, cls in PLAIN_SECTIONS.items()
    }
    dataset = _component(DATASET, merged.get("dataset"), registry, problems)
    if merged.get("dataset") is None:
        problems.append(("dataset", f"a recipe needs a dataset. Known: {', '.join(registry.names('dataset'))}"))
    quantization = _quantization(merged, registry, problems)
    regularizers = _components(REGULARIZER, "regularizers", merged, registry, problems)
    metrics = _components(METRIC, "metrics", merged, registry, problems)
    point: OperatingPointSettings | None = None
    if (given_point := merged.get("operating_point")) is not None:
        point = build(OperatingPointSettings, given_point, "operating_point", "operating_point", problems)
    selection = read_selection(plain, metrics, given_point is not None, registry, problems)
    accept = read_accept(merged.get("accept"), given_point is not None, registry, problems)
    search = merged.get("search") or {}
    if not isinstance(search, dict):
        problems.append(("search", f"expected a mapping, got {search!r}"))
    if problems or dataset is None:
        return None
    recipe = Recipe(
        name=name, seed=seed, method=str(merged["method"]), protect=protect, dataset=dataset,
        quantization=quantization, regularizers=regularizers, metrics=metrics, selection=selection, operating_point=point,
        accept=accept, search=search, demo=demo, notes=notes, **plain,
    )  # fmt: skip
    problems += cross_check(recipe)
    return None if problems else recipe


def _quantization(merged: Content, registry: Registry, problems: Problems) -> Quantization | None:
    """The sections that quantize; None in full precision, which is a recipe without a quantizer."""
    quantizer = _component(QUANTIZER, merged.get("quantizer"), registry, problems)
    allocator = _component(ALLOCATOR, merged.get("allocator"), registry, problems)
    importance = _component(IMPORTANCE, merged.get("importance"), registry, problems)
    reducer = _component(REDUCER, merged.get("reducer"), registry, problems)
    rounding = _component(ROUNDING, merged.get("rounding"), registry, problems)
    if merged.get("quantizer") is None:
        if rounding is not None:
            problems.append(("rounding", "needs a quantizer"))
        return None
    if merged.get("allocator") is None:
        problems.append(("allocator", "a quantizer needs an allocator"))
    if quantizer is None or allocator is None:
        return None
    return Quantization(quantizer, allocator, importance, reducer, rounding)


def _components(
    role: Role[T], section: str, merged: Content, registry: Registry, problems: Problems
) -> tuple[Component[T], ...]:
    """A section that lists components of one role, each at most once."""
    listed = merged.get(section) or []
    if not isinstance(listed, list):
        problems.append((section, f"expected a list, got {listed!r}"))
        return ()
    built = [_component(role, each or {}, registry, problems, f"{section}[{n}]") for n, each in enumerate(listed)]
    components = tuple(component for component in built if component is not None)
    labels = [component.label for component in components]
    for label in sorted({label for label in labels if labels.count(label) > 1}):
        problems.append((section, f"{label!r} is listed twice"))
    return components


def _component(
    role: Role[T], given: object, registry: Registry, problems: Problems, path: str = ""
) -> Component[T] | None:
    """One component; None where the section is null or something is wrong."""
    path = path or role.name
    if given is None:
        return None
    options = {"name": given} if isinstance(given, str) else given
    name = options.get("name") if isinstance(options, dict) else None
    if not isinstance(options, dict) or not isinstance(name, str):
        example = f"{{name: {registry.names(role.name)[0]}}}"
        problems.append((path, f"expected a name with options, such as {example}, got {given!r}"))
        return None
    rest = {key: value for key, value in options.items() if key != "name"}
    value = registry.build(role, name, rest, path, problems)
    return None if value is None else Component(name, value)
