"""The registry: (role, name) to a class, imported only when a recipe asks for it."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any

from fairquant.errors import UserError, suggestion

#: What a component of each role must be able to do; the Protocols in fairquant.roles say it in full.
ROLES: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "importance": ("measure",),
    "reducer": ("reduce",),
    "allocator": ("allocate",),
    "quantizer": ("build",),
    "regularizer": ("penalty",),
    "metric": ("evaluate",),
}


@dataclass(frozen=True)
class Entry:
    """One registered component. `target` is `module:attribute`; `origin` the distribution that registered it."""

    role: str
    name: str
    target: str
    summary: str = ""
    origin: str = "?"
    version: str = ""


class Registry:
    """Components by role and name. Adding is cheap (a string); loading imports the plugin's module."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def add(self, role: str, name: str, target: str, summary: str = "", origin: str = "?", version: str = "") -> None:
        """Register `target` ("package.module:Class") under `name`. A name that is taken is refused, naming both."""
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}.{suggestion(role, ROLES)} Roles: {', '.join(ROLES)}")
        if ":" not in target:
            raise ValueError(f"{role} {name!r}: target {target!r} must read 'package.module:Class'")
        taken = self._entries.get((role, name))
        if taken is not None:
            raise ValueError(
                f"{role} {name!r} is registered twice: {taken.target} ({taken.origin}) and {target} ({origin})"
            )
        self._entries[role, name] = Entry(role, name, target, summary, origin, version)

    def entries(self, role: str | None = None) -> list[Entry]:
        """All entries, or those of one role, sorted by role then name."""
        found = [entry for entry in self._entries.values() if role is None or entry.role == role]
        return sorted(found, key=lambda entry: (list(ROLES).index(entry.role), entry.name))

    def names(self, role: str) -> list[str]:
        return [entry.name for entry in self.entries(role)]

    def entry(self, role: str, name: str) -> Entry:
        if (role, name) not in self._entries:
            names = self.names(role)
            raise UserError(f"no {role} is called {name!r}.{suggestion(name, names)} Known: {', '.join(names)}")
        return self._entries[role, name]

    def load(self, role: str, name: str) -> type[Any]:
        """Import the component's class and check that it is a frozen dataclass with the role's methods."""
        entry = self.entry(role, name)
        module, _, attribute = entry.target.partition(":")
        try:
            component: Any = getattr(import_module(module), attribute)
        except Exception as error:
            raise UserError(
                f"{role} {name!r} of {entry.origin} does not load ({entry.target}): {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(component, type) and is_dataclass(component)):
            raise UserError(f"{role} {name!r} of {entry.origin}: {entry.target} is not a dataclass")
        missing = [method for method in ROLES[role] if not callable(getattr(component, method, None))]
        if missing:
            raise UserError(
                f"{role} {name!r} of {entry.origin}: {entry.target} lacks {', '.join(missing)}() of its role"
            )
        return component
