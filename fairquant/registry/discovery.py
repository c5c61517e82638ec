"""Find plugins by the entry-point group `fairquant`; a broken one is named with its distribution and skipped."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from fairquant.registry import hookspecs
from fairquant.registry.registry import Registry

GROUP = "fairquant"


@dataclass(frozen=True)
class Plugins:
    """What discovery found: the filled registry, the listeners, and what was skipped and why."""

    registry: Registry
    manager: pluggy.PluginManager
    problems: tuple[str, ...]

    def notify(self, event: str, **values: Any) -> list[str]:
        """Call every listener of `event`; return one warning for each that raised."""
        warnings = []
        for listener in getattr(self.manager.hook, event).get_hookimpls():
            arguments = {name: values[name] for name in listener.argnames}
            try:
                listener.function(*arguments.values())
            except Exception as error:
                warnings.append(f"plugin {listener.plugin_name!r} failed in {event}: {type(error).__name__}: {error}")
        return warnings

    def versions(self) -> dict[str, str]:
        """Distribution name to version, of all that registered something."""
        return {entry.origin: entry.version for entry in self.registry.entries()}


class _Scoped:
    """The registry as one plugin sees it: what it adds carries its distribution's name."""

    def __init__(self, registry: Registry, origin: str, version: str) -> None:
        self._registry, self._origin, self._version = registry, origin, version

    def add(self, role: str, name: str, target: str, summary: str = "") -> None:
        self._registry.add(role, name, target, summary, self._origin, self._version)


def discover(points: list[EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group (or those given) and let each register its components."""
    manager = pluggy.PluginManager("fairquant")
    manager.add_hookspecs(hookspecs)
    registry, problems = Registry(), []
    found = list(entry_points(group=GROUP)) if points is None else points
    for point in sorted(found, key=lambda point: point.name):
        origin = point.dist.name if point.dist else "?"
        version = point.dist.version if point.dist else ""
        try:
            module = point.load()
            manager.register(module, name=point.name)
            register = getattr(module, "fairquant_register", None)
            if register is not None:
                register(_Scoped(registry, origin, version))
        except Exception as error:
            problems.append(f"plugin {point.name!r} of {origin} is skipped: {type(error).__name__}: {error}")
    return Plugins(registry, manager, tuple(problems))
