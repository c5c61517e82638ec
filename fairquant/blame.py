"""Whose code raised: a plugin's failure is told with the plugin's name, ours stays a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from fairquant.errors import PluginFailed, UserError
from fairquant.recipe.schema import LIST_SECTIONS, ROLE_SECTIONS, Component, Recipe
from fairquant.registry import Registry
from fairquant.registry.discovery import OURS


def plugin_failure(error: BaseException, recipe: Recipe, registry: Registry) -> PluginFailed | None:
    """The error to show where an outside component of the recipe raised `error`; None where it was not one."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    raised = list(_modules(error.__traceback__))
    for role, component in _components(recipe):
        package = type(component.value).__module__.partition(".")[0]
        known = {entry.name: entry for entry in registry.entries(role)}
        entry = known.get(component.name)
        if entry is not None and entry.origin != OURS and package in raised:
            return PluginFailed(
                f"{role} {component.name!r} of {entry.origin} {entry.version} raised {type(error).__name__}: {error}. "
                "The traceback is in the run's log.txt. Once it is mended the same command goes on from here"
            )
    return None


def _modules(traceback: TracebackType | None) -> Iterator[str]:
    """Top-level packages of the frames."""
    while traceback is not None:
        yield str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        traceback = traceback.tb_next


def _components(recipe: Recipe) -> Iterator[tuple[str, Component]]:
    for role in ROLE_SECTIONS:
        if (component := getattr(recipe, role)) is not None:
            yield role, component
    for section, role in LIST_SECTIONS.items():
        for component in getattr(recipe, section):
            yield role, component
