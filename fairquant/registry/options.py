"""A component's options, as users are told of them."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Option:
    """name, type and default as text; the default of an option that must be given is "required"."""

    name: str
    type: str
    default: str


def options_of(cls: type[Any]) -> tuple[Option, ...]:
    """The fields of a component's dataclass."""
    return tuple(Option(field.name, _type(field.type, cls), _default(field)) for field in fields(cls))


def _type(annotation: Any, cls: type[Any]) -> str:
    """As written, with Literals (named ones too) as their values."""
    import sys
    from typing import Literal, get_args, get_origin

    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    value = vars(sys.modules[cls.__module__]).get(text)
    if get_origin(value) is Literal:
        return " or ".join(str(choice) for choice in get_args(value))
    text = re.sub(
        r"Literal\[(.*)\]", lambda match: match[1].replace('"', "").replace("'", "").replace(", ", " or "), text
    )
    plain = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    text = plain.get(text, text)
    text = re.sub(r"tuple\[(\w+), \.\.\.\]", lambda m: f"list of {plain.get(m[1], m[1])}s", text)
    return re.sub(r"\b(str|int|float)\b", lambda m: plain[m[1]], text).replace(" | None", " or null")


def _default(field: Any) -> str:
    if field.default is not MISSING:
        return _shown(field.default)
    if field.default_factory is not MISSING:
        return _shown(field.default_factory())
    return "required"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value) if value == "" else str(value)
