"""Whom a run protects, and by which metrics it chooses an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairquant.errors import suggestion
from fairquant.recipe.schema import Component
from fairquant.recipe.sections import PROTECTED, Protect
from fairquant.registry.build import Problems
from fairquant.registry.registry import METRIC, Registry

if TYPE_CHECKING:
    from fairquant.roles import AnyMetric


def read_protect(given: object, problems: Problems) -> Protect:
    """One of PROTECTED, or a list of classes, each once. Problems are added as (dotted key, text)."""
    if isinstance(given, str) and given in PROTECTED:
        return given
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        return tuple(dict.fromkeys(given))
    close = suggestion(str(given), PROTECTED)
    problems.append(("protect", f"expected {', '.join(PROTECTED)} or a list of classes, got {given!r}.{close}"))
    return "groups"


def read_selection(
    sections: Mapping[str, Any], metrics: Sequence[Component[AnyMetric]], registry: Registry, problems: Problems
) -> tuple[Component[AnyMetric], ...]:
    """The metrics that choose epochs: those that the recipe lists, by label, or any other with its default options."""
    chosen: dict[str, Component[AnyMetric]] = {}
    for section in ("baseline", "train"):
        settings = sections[section]  # None where something in it is wrong
        stopping = getattr(settings, "early_stopping", None)
        named = {
            "early_stopping.metric": getattr(stopping, "metric", None),
            "select": getattr(settings, "select", None),
        }
        for key, label in named.items():
            if label is not None and label not in chosen:
                built = _metric(label, f"{section}.{key}", metrics, registry, problems)
                chosen |= {} if built is None else {label: built}
    return tuple(chosen.values())


def _metric(
    label: str, key: str, metrics: Sequence[Component[AnyMetric]], registry: Registry, problems: Problems
) -> Component[AnyMetric] | None:
    """The listed metric of that label, or the registered one of that name."""
    listed = next((component for component in metrics if component.label == label), None)
    if listed is not None:
        return listed
    known = registry.names("metric")
    if label not in known:
        problems.append((key, f"no metric is called {label!r}.{suggestion(label, known)} Known: {', '.join(known)}"))
        return None
    value = registry.build(METRIC, label, {}, key, problems)
    return None if value is None else Component(label, value)
