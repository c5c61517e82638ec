"""Whose code raised: a plugin's failure is reported with the plugin's name; a failure of ours stays a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import TracebackType

from fairquant.errors import PluginFailed, UserError
from fairquant.recipe.schema import Recipe
from fairquant.registry import Registry
from fairquant.registry.contained import PASS, described, is_escape
from fairquant.registry.registry import OURS

RESUMES = ". The traceback is in the run's log.txt. Once the plugin is fixed, the same command resumes the run"


def plugin_failure(
    error: BaseException, recipe: Recipe, registry: Registry, advice: str = RESUMES
) -> PluginFailed | None:
    """The error to show where an outside component of the recipe raised `error`, with advice; None where it was not one."""
    if isinstance(error, (UserError, *PASS)):
        return None
    packages = list(_packages(error.__traceback__))
    for role, component in recipe.components():
        package = type(component.value).__module__.partition(".")[0]
        known = {entry.name: entry for entry in registry.entries(role)}
        entry = known.get(component.name)
        if entry is not None and entry.origin != OURS and package in packages:
            return PluginFailed(
                f"{role} {component.name!r} of {entry.origin} {entry.version} "
                f"{'failed' if is_escape(error) else 'raised'}{': ' if is_escape(error) else ' '}{described(error)}{advice}"
            )
    return None


@contextmanager
def naming_plugins(recipe: Recipe, registry: Registry, advice: str = "") -> Iterator[None]:
    """Run code of the recipe's components: what it prints goes to standard error, and where a component of another distribution
    raises, or would end the process, PluginFailed names it."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if (failure := plugin_failure(error, recipe, registry, advice)) is not None:
            raise failure from error
        raise


def _packages(traceback: TracebackType | None) -> Iterator[str]:
    """Top-level packages of the frames."""
    while traceback is not None:
        yield str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        traceback = traceback.tb_next
