"""The registry: (role, name) to a class, imported only when a recipe asks for it."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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
    """Components by role and name. Adding is cheap (a string); loading imports the plugin's module.

    recipe_folders: folders of recipes and method presets that plugins bring.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self.recipe_folders: list[Path] = []

    def add(self, role: str, name: str, target: str, summary: str = "", origin: str = "?", version: str = "") -> None:
        """Register `target` ("package.module:Class") under `name`. A name that is taken is refused, naming both."""
        for what, value in (("role", role), ("name", name), ("target", target), ("summary", summary)):
            if not isinstance(value, str):
                raise TypeError(f"registry.add: {what} must be text, got {value!r}")
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}.{suggestion(role, ROLES)} Roles: {', '.join(ROLES)}")
        if ":" not in target:
            raise ValueError(f"{role} {name!r}: target {target!r} must read 'package.module:Class'")
        entry = Entry(role, name, target, summary, origin, version)
        self._refuse_taken(entry)
        self._entries[role, name] = entry

    def add_recipes(self, package: str, folder: str = "recipes") -> None:
        """Register the recipes (*.yaml) and method presets (methods/*.yaml) in `folder` of an importable package."""
        spec = find_spec(package)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if not places:
            raise ValueError(f"recipes: {package!r} is not a package that can be found")
        if not (found := Path(places[0]) / folder).is_dir():
            raise ValueError(f"recipes: package {package!r} has no folder {folder!r}")
        self.recipe_folders.append(found)

    def take(self, other: Registry) -> None:
        """Everything of `other`, or nothing: ValueError where a name is taken."""
        for entry in other.entries():
            self._refuse_taken(entry)
        self._entries |= other._entries
        self.recipe_folders += other.recipe_folders

    def _refuse_taken(self, new: Entry) -> None:
        taken = self._entries.get((new.role, new.name))
        if taken is not None:
            raise ValueError(
                f"{new.role} {new.name!r} is registered twice: {taken.target} ({taken.origin}) and {new.target} ({new.origin})"
            )

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
