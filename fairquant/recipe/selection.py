"""Whom a run protects, and by which metrics it chooses an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    sections: Mapping[str, Any], metrics: Sequence[Component[AnyMetric]], has_operating_point: bool, registry: Registry,
    problems: Problems,
) -> tuple[Component[AnyMetric], ...]:  # fmt: skip
    """The metrics that choose epochs: those that the recipe lists, by label, or any other with its default options."""
    chosen: dict[str, Component[AnyMetric]] = {}
    for key, label in _selecting(sections):
        if label.startswith("operating-point") and not has_operating_point:
            problems.append((key, "needs the section operating_point, which chooses the threshold"))
        elif label not in chosen and (built := _metric(label, key, metrics, registry, problems)) is not None:
            chosen[label] = built
    return tuple(chosen.values())


def _selecting(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key that names a metric to choose epochs by, and its label."""
    for section in ("baseline", "train"):
        settings = sections[section]  # None where something in it is wrong
        stopping = getattr(settings, "early_stopping", None)
        for key, owner, name in (("early_stopping.metric", stopping, "metric"), ("select", settings, "select")):
            label = getattr(owner, name, None)
            if label is not None:
                yield f"{section}.{key}", label


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
