"""Find plugins by the entry-point group `fairquant`; a broken one is named with its distribution and skipped whole."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import pluggy

from fairquant.errors import UserError, suggestion
from fairquant.registry import hookspecs
from fairquant.registry.contained import contained, described
from fairquant.registry.contract import objection
from fairquant.registry.registry import OURS, Registrar, Registry

GROUP = "fairquant"
DISABLE = "FAIRQUANT_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Plugins:
    """What discovery found: the filled registry, the listeners, and what was skipped and why."""

    registry: Registry
    manager: pluggy.PluginManager
    problems: tuple[str, ...]

    def notify(self, event: str, **values: object) -> list[str]:
        """Call every listener of `event`; return one warning for each that raised."""
        return self.notify_watched(event, values, lambda: "")

    def notify_watched(self, event: str, values: Mapping[str, object], after: Callable[[], str]) -> list[str]:
        """`notify`, with a further warning for each listener after which after() says what it has left behind."""
        warnings = []
        for listener in getattr(self.manager.hook, event).get_hookimpls():
            try:
                with contained():
                    listener.function(*(_own(values[name]) for name in listener.argnames))
            except Exception as error:
                warnings.append(f"plugin {listener.plugin_name!r} failed in {event}: {described(error)}")
            if left := after():
                warnings.append(f"plugin {listener.plugin_name!r} {left} in {event}, which is undone")
        return warnings

    def silent(self) -> Plugins:
        """The same components without listeners."""
        manager = pluggy.PluginManager("fairquant")
        manager.add_hookspecs(hookspecs)
        return Plugins(self.registry, manager, self.problems)

    def versions(self) -> dict[str, str]:
        """Distribution name to version, of all that registered something."""
        return {entry.origin: entry.version for entry in self.registry.entries()}


def _own(value: object) -> object:
    """A listener's own copy of plain data, such as a report."""
    return copy.deepcopy(value) if isinstance(value, dict) else value


def discover(points: list[EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group (or those given) and let each register its components.

    FAIRQUANT_DISABLE_PLUGINS=a,b leaves out plugins by their own or their distribution's name;
    FAIRQUANT_STRICT_PLUGINS=1 raises UserError where one is broken, instead of skipping it.
    """
    manager = pluggy.PluginManager("fairquant")
    manager.add_hookspecs(hookspecs)
    registry, problems = Registry(), []
    installed = list(entry_points(group=GROUP)) if points is None else points
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")} - {""}
    left_out, known = [], {name for point in installed for name in (point.name, origin_of(point)[0])}
    for point in sorted(installed, key=lambda point: (origin_of(point)[0] != OURS, point.name)):
        origin, version = origin_of(point)
        if point.name in disabled or (origin in disabled and origin != OURS):
            left_out.append(f"plugin {point.name!r} of {origin} is disabled ({DISABLE})")
            continue
        try:
            with contained():
                _register(point, origin, version, registry, manager)
        except Exception as error:
            why = str(error) if isinstance(error, _Refused) else described(error)
            problems.append(f"plugin {point.name!r} of {origin} is skipped: {why}")
    if problems and os.environ.get("FAIRQUANT_STRICT_PLUGINS", "") not in ("", "0"):
        raise UserError(problems, "the installed plugins (FAIRQUANT_STRICT_PLUGINS is set)")
    problems += [
        f"{DISABLE}: no plugin is called {name!r}.{suggestion(name, known)}" for name in sorted(disabled - known)
    ]
    registry.left_out = (*problems, *left_out)
    return Plugins(registry, manager, tuple(problems))


def origin_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point belongs to."""
    return (point.dist.name, point.dist.version) if point.dist else ("?", "")


class _Refused(Exception):
    """A plugin that loads but does not keep the contract."""


def _register(point: EntryPoint, origin: str, version: str, registry: Registry, manager: pluggy.PluginManager) -> None:
    """One plugin: all of what it registers and listens to, or an exception and nothing of it."""
    module = point.load()
    if not isinstance(module, ModuleType):
        raise _Refused(f"its entry point must name a module, not {point.value}")
    if (why := objection(getattr(module, "FAIRQUANT_CONTRACT", 1))) is not None:
        raise _Refused(why)
    _refuse_misspelt_hooks(module)
    own = Registry()
    register = getattr(module, "fairquant_register", None)
    if register is not None:
        register(Registrar(own, origin, version))
    try:
        manager.register(module, name=point.name)
        registry.take(own)
    except Exception:
        if manager.has_plugin(point.name):
            manager.unregister(name=point.name)
        raise


def _refuse_misspelt_hooks(module: ModuleType) -> None:
    known = [name for name in dir(hookspecs) if name.startswith("fairquant_")]
    for name in dir(module):
        function = getattr(module, name)
        marked = hasattr(function, "fairquant_impl")
        if name not in known and (marked or (name.startswith("fairquant_") and callable(function))):
            raise _Refused(f"there is no hook {name!r}.{suggestion(name, known)} Hooks: {', '.join(known)}")
        if name in known and not marked:
            raise _Refused(f"{name} needs the decorator @hookimpl of fairquant.registry")
