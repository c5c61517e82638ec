"""References between a recipe's keys, `${section.key}`, resolved by OmegaConf once everything is merged.

Only texts with a reference go through OmegaConf. It does not merge the recipe: it refuses containers of different kinds, dates
and keys that are not text before their line can be named, and takes the text ??? for a missing value.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping

from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from fairquant.recipe.lines import Content
from fairquant.registry.build import Problems

RESOLVER = re.compile(r"\$\{[^}]*:")
Path = tuple[str | int, ...]


def reference_problems(content: object) -> Problems:
    """What is wrong with references before any is resolved: malformed ones, and calls of a resolver.

    `${oc.env:HOME}` is refused: a recipe, and what is made of it, must not depend on the environment, nor reveal it.
    """
    problems: Problems = []
    for path, text in _references(content):
        if RESOLVER.search(text):
            problem = (
                f"{text!r} calls a resolver, which recipes do not allow (no environment variables). "
                "Write the value itself, or refer to another key, such as ${seed}"
            )
        elif not _is_well_formed(text):
            problem = f"{text!r} is no reference to a key, such as ${{seed}}. For the characters themselves write \\${{"
        else:
            continue
        problems.append((_dotted(path), problem))
    return problems


def resolve_references(content: Content, with_defaults: Content) -> tuple[Content, Problems]:
    """The content with each `${section.key}` replaced by what stands there; a problem for each that leads nowhere.

    with_defaults: the same with the keys that the recipe leaves out.
    """
    references = list(_references(content))
    if not references:
        return content, []
    config = OmegaConf.create(_holdable(with_defaults), flags={"allow_objects": True})
    resolved: Content = copy.deepcopy(content)
    problems: Problems = []
    for path, _ in references:
        try:
            value = config
            for step in path:
                value = value[step]
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            problems.append((_dotted(path), str(error).splitlines()[0]))
            continue
        owner = resolved
        for step in path[:-1]:
            owner = owner[step]  # type: ignore[index]  # a list takes whole numbers
        owner[path[-1]] = value  # type: ignore[index]
    return resolved, problems


def _references(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text with a reference, and the keys and list positions that lead to it."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _references(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _references(each, (*path, number))
    elif isinstance(value, str) and "${" in value:
        yield path, value


def _is_well_formed(text: str) -> bool:
    try:
        OmegaConf.create({"text": text})
    except GrammarParseError:
        return False
    return True


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _holdable(value: object) -> object:
    """A copy with keys that OmegaConf can hold."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str | int | float) else str(key): _holdable(each) for key, each in value.items()}
    return [_holdable(each) for each in value] if isinstance(value, list) else value
