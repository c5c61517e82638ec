"""From plain data to dataclasses: unknown keys, wrong types and out-of-range values become problems, all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fairquant.errors import suggestion

T = TypeVar("T")
#: (dotted recipe key, what is wrong there).
Problems = list[tuple[str, str]]


def build(cls: type[T], values: object, path: str, noun: str, problems: Problems) -> T | None:
    """An instance of the dataclass `cls`, or None where a value is wrong or missing.

    Everything wrong is added to the problems as (dotted key, what); unknown options are added there and left out.

    noun: how messages refer to the owner of the keys, e.g. "allocator 'knapsack'".
    """
    if not isinstance(values, Mapping):
        problems.append((path, f"expected a mapping, got {values!r}"))
        return None
    known = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    unknown = [key for key in values if key not in known]
    for key in unknown:
        problems.append((f"{path}.{key}", _unknown_option(str(key), noun, known)))
    good = {key: value for key, value in values.items() if key in known}
    try:
        made = TypeAdapter(cls).validate_python(good)
    except ValidationError as error:
        problems += _problems(error.errors(), cls, path, noun, known)
        return None
    infinite = [key for key in good if not _is_finite(getattr(made, key, None))]  # given as a text, such as nan
    problems += [(f"{path}.{key}" if path else key, f"must be a finite number, got {good[key]!r}") for key in infinite]
    return None if infinite else made


def _is_finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _problems(errors: Sequence[ErrorDetails], cls: type, path: str, noun: str, known: list[str]) -> Problems:
    """Each error once: of an option that takes several forms, those of the form that was meant, or all forms in one message."""
    tags = {each.__name__ for each in _dataclasses(get_type_hints(cls))} if is_dataclass(cls) else set()
    by_option: dict[object, list[ErrorDetails]] = {}
    for each in errors:
        by_option.setdefault(each["loc"][0] if each["loc"] else "", []).append(each)
    problems: Problems = []
    for group in by_option.values():
        forms = [each for each in group if _is_form(each, tags)]
        others = [each for each in group if each not in forms]
        if others or len(forms) < 2:
            problems += [_problem(each, path, noun, known, tags) for each in others or forms]
            continue
        place = max(
            (_place(each, tags) for each in forms), key=len
        )  # the form that went deepest is the one that was meant
        forms = [each for each in forms if _place(each, tags) == place]
        key, _ = _problem(forms[0], path, noun, known, tags)
        *first, last = dict.fromkeys(_form(each) for each in forms)
        wanted = f"{', '.join(first)} or {last}" if first else last
        problems.append((key, f"expected {wanted}, got {forms[0].get('input')!r}"))
    return problems


def _dataclasses(annotation: object) -> Iterator[type]:
    """The dataclasses that an annotation, or a mapping of them, names."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        yield annotation
    for each in annotation.values() if isinstance(annotation, dict) else get_args(annotation):
        yield from _dataclasses(each)


def _is_form(error: ErrorDetails, tags: set[str]) -> bool:
    """Whether the error says that one form of several does not fit: its last step is the name of the form."""
    last = str(error["loc"][-1]) if len(error["loc"]) > 1 else ""
    return _is_tag(last, tags) and (error["type"] in _WANTED or error["type"] in ("literal_error", "is_instance_of"))


def _place(error: ErrorDetails, tags: set[str]) -> list[str]:
    """Keys from the option down to what is wrong, without the names of forms."""
    return [str(step) for place, step in enumerate(error["loc"]) if not place or not _is_tag(str(step), tags)]


def _is_tag(step: str, tags: set[str]) -> bool:
    return step in tags or step in ("str", "int", "float", "bool") or step.startswith(TAGS)


#: How pydantic names the forms of an option in an error's place.
TAGS = ("tuple", "dict[", "literal[", "function", "lax-or-strict")


def _form(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "")
    return _WANTED.get(error["type"], "another value")


def _unknown_option(key: str, noun: str, known: list[str]) -> str:
    if key in RENAMED:
        return f"this option is now called {RENAMED[key]!r}"
    listed = f" Options: {', '.join(known)}" if known else " It has no options"
    return f"{noun} has no option {key!r}.{suggestion(key, known)}{listed}"


#: Options of earlier recipes and what they are called now.
RENAMED = {"settle_after": "freeze_bits_after", "shares": "fractions"}


def _problem(error: ErrorDetails, path: str, noun: str, known: list[str], tags: set[str]) -> tuple[str, str]:
    # a message of __post_init__ is "field: what"; pydantic's own carry the place in `loc`
    location = _place(error, tags)
    key = ".".join([path, *location]) if path else ".".join(location)
    kind, message, value = error["type"], error["msg"], error.get("input")
    if kind == "value_error":
        text = str(error["ctx"]["error"])
        name, colon, rest = text.partition(": ")
        if colon and name.split(",")[0] in known:
            return f"{key}.{name.split(',')[0]}", rest
        return key, text
    if kind == "unexpected_keyword_argument":
        return key, "is not known here"
    if kind == "missing":
        return key, f"{noun} needs this option"
    if kind == "literal_error":
        options = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        return key, f"{value!r} is not one of {options}.{suggestion(str(value), options.split(', '))}"
    if kind in _BOUNDS:
        if str(value).lower() == "nan":
            return key, f"must be a number, got {value!r}"
        return key, f"must be {_BOUNDS[kind].format(**error.get('ctx', {}))}, got {value!r}"
    wanted = _WANTED.get(kind)
    return key, f"expected {wanted}, got {value!r}" if wanted else f"{message}, got {value!r}"


_WANTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "float_parsing": "a number", "bool_type": "true or false", "bool_parsing": "true or false",
    "string_type": "text", "tuple_type": "a list", "dict_type": "a mapping", "dataclass_type": "a mapping",
}  # fmt: skip
#: pydantic's range checks.
_BOUNDS = {
    "greater_than": "greater than {gt:g}", "greater_than_equal": "at least {ge:g}", "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}", "finite_number": "a finite number",
}  # fmt: skip
