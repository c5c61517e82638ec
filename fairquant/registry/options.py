"""A component's options, as users see them."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

PLAIN: dict[object, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}
LISTS: dict[object, str] = {str: "texts", int: "whole numbers", float: "numbers"}


@dataclass(frozen=True)
class Option:
    """name, type and default as text; the default of an option that must be given is "required"."""

    name: str
    type: str
    default: str


def options_of(cls: type[object]) -> tuple[Option, ...]:
    """The fields of a component's dataclass."""
    if not is_dataclass(cls):
        return ()
    hints = get_type_hints(cls, include_extras=True)
    return tuple(Option(field.name, _type(hints[field.name]), _default(field)) for field in fields(cls))


def _type(hint: object) -> str:
    """A type in words, such as "whole number or null"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in arguments)
    if origin is tuple:
        return f"list of {LISTS.get(arguments[0], _type(arguments[0]))}"
    if origin is dict:
        value = "anything" if arguments[1] is Any else _type(arguments[1])
        return f"mapping of {_type(arguments[0])} to {value}"
    return PLAIN.get(hint, getattr(hint, "__name__", str(hint)))


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return _shown(field.default)
    if field.default_factory is not MISSING:
        return _shown(field.default_factory())
    return "required"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value) if value == "" else str(value)
