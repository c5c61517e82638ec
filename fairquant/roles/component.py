"""What a component of any role may declare for the conformance kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable


@runtime_checkable
class HasExample(Protocol):
    """A class with required options: `example` gives values for them, so that it can be checked without a recipe."""

    example: ClassVar[Mapping[str, object]]


@runtime_checkable
class DeclaresExemptions(Protocol):
    """A component that cannot keep some rules of its role: `exempt` maps the name of each check to the reason."""

    @property
    def exempt(self) -> Mapping[str, str]: ...
