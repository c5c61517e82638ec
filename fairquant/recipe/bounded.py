"""Bounds on what a recipe may hold, checked before anything is made of it: depth, size, aliases, and numbers that are not numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import yaml

from fairquant.registry.build import Problems

#: Characters of a file, values within values, and values with aliases written out: far more than any recipe has.
MOST_TEXT, MOST_DEPTH, MOST_VALUES = 2_000_000, 64, 100_000
MOST_DIGITS = 30
#: YAML's whole numbers, decimal, hexadecimal, binary, and those to the base 60 (1:30:00), of which there are fractions too.
NUMBER = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?)")
#: What a seed may be: scikit-learn takes no larger ones, and one that follows from the seed must fit as well.
LARGEST_SEED = 2**32 - 16


class TooLarge(yaml.YAMLError):
    """A text that is YAML, but larger or deeper than a recipe can be."""

    def __init__(self, problem: str, mark: object = None) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


def check_size(text: str) -> None:
    """Read the text event by event, without building anything. Raises TooLarge, or what YAML raises for a text that is none."""
    if len(text) > MOST_TEXT:
        raise TooLarge(f"{len(text)} characters are more than a recipe can have")
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader), 1):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _is_long_number(event.value):
            raise TooLarge(f"a number of {len(event.value)} digits", event.start_mark)
        if depth > MOST_DEPTH:
            raise TooLarge(f"lists or mappings stand more than {MOST_DEPTH} deep within each other", event.start_mark)
        if count > MOST_VALUES:
            raise TooLarge(f"more than {MOST_VALUES} values", event.start_mark)


def check_aliases(node: yaml.Node | None) -> None:
    """Raises TooLarge where an alias stands within what it names, or aliases stand for more values than a recipe can have."""
    sizes: dict[int, int] = {}

    def size(each: yaml.Node, within: frozenset[int]) -> int:
        if id(each) in within:
            raise TooLarge("an alias (*name) stands within what it names", each.start_mark)
        if id(each) not in sizes:
            inner = within | {id(each)}
            sizes[id(each)] = 1 + sum(size(child, inner) for child in _children(each))
            if sizes[id(each)] > MOST_VALUES:
                raise TooLarge(f"aliases stand for more than {MOST_VALUES} values", each.start_mark)
        return sizes[id(each)]

    if node is not None:
        size(node, frozenset())


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _is_long_number(text: str) -> bool:
    return len(text) > MOST_DIGITS and NUMBER.fullmatch(text) is not None


def number_problems(content: object, path: str = "") -> Problems:
    """Every number of the recipe that is infinite, not a number, or larger than a computer's whole numbers."""
    problems: Problems = []
    if isinstance(content, Mapping):
        for key, value in content.items():
            problems += number_problems(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            problems += number_problems(value, f"{path}[{number}]")
    elif isinstance(content, float) and not math.isfinite(content):
        problems.append((path, f"must be a finite number, got {content}"))
    elif isinstance(content, int) and not -(2**63) <= content < 2**63:
        problems.append((path, f"{content} is too large"))
    return problems
