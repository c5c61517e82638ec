"""From plain data to dataclasses: unknown keys, wrong types and out-of-range values become problems, all at once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fairquant.errors import suggestion


def build(cls: type[Any], values: Any, path: str, noun: str, problems: list[tuple[str, str]]) -> Any:
    """An instance of the dataclass `cls`, or None with (dotted key, problem) added for each thing wrong.

    noun: how to call the owner of the keys, e.g. "allocator 'knapsack'".
    """
    if not isinstance(values, dict):
        problems.append((path, f"expected a mapping, got {values!r}"))
        return None
    known = [field.name for field in fields(cls)]
    unknown = [key for key in values if key not in known]
    for key in unknown:
        listed = f" Options: {', '.join(known)}" if known else " It has no options"
        problems.append((f"{path}.{key}", f"{noun} has no option {key!r}.{suggestion(str(key), known)}{listed}"))
    good = {key: value for key, value in values.items() if key in known}
    try:
        return TypeAdapter(cls).validate_python(good)
    except ValidationError as error:
        for each in error.errors():
            problems.append(_problem(each, path, noun, known))
    return None


def _problem(error: Any, path: str, noun: str, known: list[str]) -> tuple[str, str]:
    # a message of __post_init__ is "field: what"; pydantic's own carry the place in `loc`
    location = [str(part) for part in error["loc"] if not str(part).startswith(("tuple", "dict", "function"))]
    key = ".".join([path, *location]) if path else ".".join(location)
    kind, message, value = error["type"], error["msg"], error.get("input")
    if kind == "value_error":
        text = str(error["ctx"]["error"])
        name, colon, rest = text.partition(": ")
        if colon and name.split(",")[0] in known:
            return f"{key}.{name.split(',')[0]}", rest
        return key, text
    if kind == "missing":
        return key, f"{noun} needs this option"
    if kind == "literal_error":
        options = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        return key, f"{value!r} is not one of {options}.{suggestion(str(value), options.split(', '))}"
    wanted = _WANTED.get(kind)
    return key, f"expected {wanted}, got {value!r}" if wanted else f"{message}, got {value!r}"


_WANTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "float_parsing": "a number", "bool_type": "true or false", "bool_parsing": "true or false",
    "string_type": "text", "tuple_type": "a list", "dict_type": "a mapping", "dataclass_type": "a mapping",
}  # fmt: skip
