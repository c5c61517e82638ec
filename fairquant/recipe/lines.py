"""Where each key of a YAML file stands, so that errors can name the line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from fairquant.errors import UserError
from fairquant.recipe.bounded import check_aliases, check_size

#: Plain data out of YAML, of any type until it is checked.
Content = dict[str, Any]
OCTAL = re.compile(r"[-+]?0[0-7_]+")


def parse_yaml(text: str, source: str) -> tuple[Content, dict[str, int], list[str]]:
    """The content, dotted key -> line number, and problems (duplicate keys). UserError where it is no YAML mapping, or
    larger than a recipe can be."""
    try:
        check_size(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        check_aliases(node)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2026-99-99 is no YAMLError
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError([f"{source}{line}: not valid YAML: {problem}"], source) from error
    if content is None:
        content, node = {}, None
    if not isinstance(content, dict):
        raise UserError([f"{source}:1: a recipe is a mapping of sections, this is a {type(content).__name__}"], source)
    lines: dict[str, int] = {}
    problems: list[str] = []
    if node is not None:
        _walk(node, "", lines, problems, source)
    return content, lines, problems


def octal(node: yaml.Node | None) -> str:
    """What is wrong with a number such as 010, which YAML reads as 8; "" where nothing is."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int" and OCTAL.fullmatch(node.value):
        plain = node.value.lstrip("+-0") or "0"
        return f"{node.value} would be read in base 8. Write {plain}, or '{node.value}' for a text"
    return ""


def _walk(node: yaml.Node, path: str, lines: dict[str, int], problems: list[str], source: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if key.value in seen:
                problems.append(f"{source}:{line}: {here}: given twice (first in line {lines[here]})")
            seen.add(key.value)
            lines.setdefault(here, line)
            if wrong := octal(value):
                problems.append(f"{source}:{line}: {here}: {wrong}")
            _walk(value, here, lines, problems, source)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            here = f"{path}[{number}]"
            lines[here] = value.start_mark.line + 1
            _walk(value, here, lines, problems, source)


def line_of(key: str, lines: Mapping[str, int]) -> int | None:
    """The line of a key, or of the nearest section around it."""
    while key:
        if key in lines:
            return lines[key]
        cut = max(key.rfind("."), key.rfind("["))
        key = key[:cut] if cut > 0 else ""
    return None
