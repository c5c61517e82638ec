"""A component's options in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fairquant.registry.options import Option, options_of


@dataclass(frozen=True)
class Component:
    name: str
    alpha: float = 0.5
    count: Annotated[int, Field(ge=1)] = 3
    scale: Literal["absmax", "mse"] = "mse"
    limit: int | None = None
    levels: tuple[int, ...] = (2, 4)
    weights: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    on: bool = True
    text: str = ""
    needs: ClassVar[str] = "confusion"


def test_types_and_defaults_are_words():
    assert {option.name: (option.type, option.default) for option in options_of(Component)} == {
        "name": ("text", "required"), "alpha": ("number", "0.5"), "count": ("whole number", "3"),
        "scale": ("absmax or mse", "mse"), "limit": ("whole number or null", "null"),
        "levels": ("list of whole numbers", "[2, 4]"), "weights": ("mapping of text to number", "{}"),
        "options": ("mapping of text to anything", "{}"), "on": ("true or false", "true"), "text": ("text", "''"),
    }  # fmt: skip


def test_what_is_no_data_class_has_no_options():
    assert options_of(int) == ()


def test_every_registered_component_has_options_that_can_be_described(registry):
    for entry in registry.entries():
        for option in options_of(registry.load(entry.role, entry.name)):
            assert isinstance(option, Option)
            assert "typing" not in option.type, (entry, option)
            assert "class" not in option.type, (entry, option)
