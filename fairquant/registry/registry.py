"""The registry: (role, name) to a class, imported only when a recipe asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from fairquant.errors import UserError, suggestion
from fairquant.registry.build import Problems, build
from fairquant.registry.contained import contained, described

if TYPE_CHECKING:
    from fairquant.roles import Allocator, AnyMetric, Dataset, Importance, Quantizer, Reducer, Regularizer, Rounding

T = TypeVar("T")
#: The distribution whose components are ours.
OURS = "fairquant"


@dataclass(frozen=True)
class Role(Generic[T]):
    """A role by name, with the methods and attributes that its components must have; T is the Protocol in `fairquant.roles` that
    says them in full."""

    name: str
    methods: tuple[str, ...]
    attributes: tuple[str, ...] = ()


DATASET: Role[Dataset] = Role("dataset", ("check", "load"))
IMPORTANCE: Role[Importance] = Role("importance", ("measure",))
REDUCER: Role[Reducer] = Role("reducer", ("reduce",))
ALLOCATOR: Role[Allocator] = Role("allocator", ("allocate",))
QUANTIZER: Role[Quantizer] = Role("quantizer", ("build",))
ROUNDING: Role[Rounding] = Role("rounding", ("round",), ("needs",))
REGULARIZER: Role[Regularizer] = Role("regularizer", ("penalty",))
METRIC: Role[AnyMetric] = Role("metric", ("evaluate",), ("needs", "gap"))

#: Role name to the methods that its components must have, in the order of the pipeline.
ROLES: dict[str, tuple[str, ...]] = {
    role.name: role.methods
    for role in (DATASET, IMPORTANCE, REDUCER, ALLOCATOR, QUANTIZER, ROUNDING, REGULARIZER, METRIC)
}
#: Role name to the attributes, class variables or fields, that its components must have.
ATTRIBUTES: dict[str, tuple[str, ...]] = {METRIC.name: METRIC.attributes, ROUNDING.name: ROUNDING.attributes}


@dataclass(frozen=True, kw_only=True)
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

    recipe_folders: folders of recipes and method presets that plugins bring. left_out: plugins that are skipped or disabled, in
    words.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self.recipe_folders: list[Path] = []
        self.left_out: tuple[str, ...] = ()

    def add(self, role: str, name: str, target: str, summary: str = "", origin: str = "?", version: str = "") -> None:
        """Register `target` ("package.module:Class") under `name`. A name that is taken is refused, naming both.

        Raises TypeError for values that are not text, ValueError for an unknown role, a malformed target or a taken name.
        """
        for what, value in (("role", role), ("name", name), ("target", target), ("summary", summary)):
            if not isinstance(value, str):
                raise TypeError(f"registry.add: {what} must be text, got {value!r}")
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}.{suggestion(role, ROLES)} Roles: {', '.join(ROLES)}")
        if ":" not in target:
            raise ValueError(f"{role} {name!r}: target {target!r} must read 'package.module:Class'")
        entry = Entry(role=role, name=name, target=target, summary=summary, origin=origin, version=version)
        self._refuse_taken(entry)
        self._entries[role, name] = entry

    def add_recipes(self, package: str, folder: str = "recipes") -> None:
        """Register the recipes (*.yaml) and method presets (methods/*.yaml) in `folder` of an importable package.

        Raises ValueError where there is no such package or folder.
        """
        spec = find_spec(package)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if not places:
            raise ValueError(f"recipes: {package!r} is not an importable package")
        if not (recipes := Path(places[0]) / folder).is_dir():
            raise ValueError(f"recipes: package {package!r} has no folder {folder!r}")
        self.recipe_folders.append(recipes)

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
        chosen = [entry for entry in self._entries.values() if role is None or entry.role == role]
        return sorted(chosen, key=lambda entry: (list(ROLES).index(entry.role), entry.name))

    def names(self, role: str) -> list[str]:
        return [entry.name for entry in self.entries(role)]

    def entry(self, role: str, name: str) -> Entry:
        if (role, name) not in self._entries:
            names = self.names(role)
            left_out = "".join(f". {each[:1].upper()}{each[1:]}" for each in self.left_out)
            raise UserError(
                f"no {role} is called {name!r}.{suggestion(name, names)} Known: {', '.join(names)}{left_out}"
            )
        return self._entries[role, name]

    @overload
    def load(self, role: Role[T], name: str) -> type[T]: ...
    @overload
    def load(self, role: str, name: str) -> type[object]: ...
    def load(self, role: Role[T] | str, name: str) -> type[T] | type[object]:
        """Import the component's class and check that it is a dataclass with the role's methods.

        Raises UserError for an unknown name, and for a class that does not import or does not fit its role.
        """
        entry = self.entry(role if isinstance(role, str) else role.name, name)
        module, _, attribute = entry.target.partition(":")
        whose = f"{entry.role} {name!r} of {entry.origin}"
        try:
            with contained():
                component: object = getattr(import_module(module), attribute)
        except Exception as error:
            raise UserError(f"{whose} does not load ({entry.target}): {described(error)}") from error
        if not (isinstance(component, type) and is_dataclass(component)):
            raise UserError(f"{whose}: {entry.target} is not a dataclass")
        missing = [method for method in ROLES[entry.role] if not callable(getattr(component, method, None))]
        if missing:
            raise UserError(f"{whose}: {entry.target} lacks {', '.join(missing)}() of its role")
        own = {field.name for field in fields(component)}
        if missing := [
            name for name in ATTRIBUTES.get(entry.role, ()) if name not in own and not hasattr(component, name)
        ]:
            raise UserError(
                f"{whose}: {entry.target} lacks {' and '.join(missing)}, attributes of its role (fairquant/roles/{entry.role}.py)"
            )
        return component

    def build(self, role: Role[T], name: str, options: object, path: str, problems: Problems) -> T | None:
        """A component with its options (a mapping) as a recipe gives them, or None with everything wrong added to
        `problems` as (dotted key under `path`, what is wrong)."""
        try:
            cls = self.load(role, name)
        except UserError as error:
            problems.append((f"{path}.name", str(error)))
            return None
        try:
            with contained():
                return build(cls, options, path, f"{role.name} {name!r}", problems)
        except Exception as error:
            if self.entry(role.name, name).origin == OURS:
                raise
            origin = self.entry(role.name, name).origin
            problems.append((path, f"{role.name} {name!r} of {origin} cannot be made: {described(error)}"))
            return None


class Registrar:
    """The registry as one plugin sees it: what it adds carries the name of its distribution."""

    def __init__(self, registry: Registry, origin: str, version: str) -> None:
        self._registry, self._origin, self._version = registry, origin, version

    def add(self, role: str, name: str, target: str, summary: str = "") -> None:
        """See `Registry.add`."""
        self._registry.add(role, name, target, summary, self._origin, self._version)

    def add_recipes(self, package: str, folder: str = "recipes") -> None:
        """See `Registry.add_recipes`."""
        self._registry.add_recipes(package, folder)
