"""The recipe's section `accept`: the limits within which the compressed model may be shipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from fairquant.errors import suggestion
from fairquant.recipe.limits import FILE, default_limits
from fairquant.recipe.schema import Component, Limit
from fairquant.recipe.sections import SIZES, quantity
from fairquant.registry.build import Problems
from fairquant.registry.registry import METRIC, Registry

#: Key of a bound -> kind of limit.
BOUNDS: dict[str, Literal["loss", "rise", "at least", "at most"]] = {
    "loss_at_most": "loss", "rise_at_most": "rise", "at_least": "at least", "at_most": "at most",
}  # fmt: skip
SCOPES = ("all", "group")
EXAMPLE = "{sensitivity: {classes: [MEL], by: group, loss_at_most: 0.05}}"


def read_accept(
    section: object, has_operating_point: bool, registry: Registry, problems: Problems
) -> tuple[Limit, ...]:
    """The limits of the section; the default ones where it names none but of the file, without those that are null there. Problems
    are added as (dotted key, text)."""
    if section is not None and not isinstance(section, Mapping):
        problems.append(("accept", f"expected a mapping, such as {EXAMPLE}, got {section!r}"))
        return ()
    named: dict[Any, Any] = dict(section or {})
    if {name for name, given in named.items() if given is not None} <= {
        FILE
    }:  # a limit of the size says nothing of patients
        named = default_limits(has_operating_point) | named
    limits: list[Limit] = []
    before = len(problems)
    for name, given in named.items():
        several = given if isinstance(given, list) else [] if given is None else [given]  # null: no limit
        if given == []:
            problems.append((f"accept.{name}", f"needs a bound: one of {', '.join(BOUNDS)}; null takes the limit away"))
        for number, each in enumerate(several):
            path = f"accept.{name}" + (f"[{number}]" if isinstance(given, list) else "")
            if not isinstance(each, Mapping):
                problems.append((path, f"expected a bound, such as {_example(str(name))}, got {each!r}"))
            elif name == FILE:
                limits += _file(each, path, problems)
            else:
                limits += _metric(str(name), each, path, registry, problems)
            if str(name).startswith("operating-point") and not has_operating_point:
                problems.append((path, "needs the section operating_point, which chooses the threshold"))
    return tuple(limits) if len(problems) == before else ()


def _example(name: str) -> str:
    return "{at_most: 1MB}" if name == FILE else "{loss_at_most: 0.02}"


def _file(given: Mapping[Any, Any], path: str, problems: Problems) -> list[Limit]:
    """A limit of the file's size."""
    bound = given.get("at_most")
    size = quantity(str(bound), SIZES) if isinstance(bound, str) else None
    if size is None or set(given) != {"at_most"}:
        problems.append(
            (path, f"expected {{at_most: SIZE}} with one of {', '.join(SIZES)}, such as 1MB, got {dict(given)!r}")
        )
        return []
    return [Limit(name=FILE, kind="at most", bound=size, metric=None, by_group=False, given=dict(given))]


def _metric(name: str, given: Mapping[Any, Any], path: str, registry: Registry, problems: Problems) -> list[Limit]:
    """Each bound of one metric; keys that are none of ours are the metric's options."""
    before = len(problems)
    if name not in registry.names("metric"):
        known = [*registry.names("metric"), FILE]
        problems.append((path, f"no metric is called {name!r}.{suggestion(name, known)} Known: {', '.join(known)}"))
        return []
    own = ("by", *BOUNDS)
    options = {key: value for key, value in given.items() if key not in own}
    cls = registry.load(METRIC, name)
    known = [*own, *(each.name for each in fields(cls))] if is_dataclass(cls) else list(own)
    for key in [key for key in options if key not in known]:
        problems.append((f"{path}.{key}", f"unknown key.{suggestion(str(key), known)} Keys: {', '.join(known)}"))
        del options[key]
    metric = registry.build(METRIC, name, options, path, problems)
    by = given.get("by", "all")
    if by not in SCOPES:
        problems.append((f"{path}.by", f"{by!r} is not one of {', '.join(SCOPES)}.{suggestion(str(by), SCOPES)}"))
    bounds = {key: value for key, value in given.items() if key in BOUNDS}
    if not bounds:
        problems.append((path, f"needs a bound: one of {', '.join(BOUNDS)}"))
    for key, value in bounds.items():
        low, high = (0.0, 1.0) if key in ("loss_at_most", "rise_at_most") else _bounds(metric)
        within = f" within {low:g}..{high:g}" if math.isfinite(low) and math.isfinite(high) else ""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            problems.append((f"{path}.{key}", f"expected a number{within}, got {value!r}"))
        elif value == (low if key == "at_least" else high):
            problems.append((f"{path}.{key}", f"{value:g} can never be broken: give a limit that can"))
        elif value == 0 and key in ("loss_at_most", "rise_at_most"):
            problems.append(
                (f"{path}.{key}", "no number of images can show that nothing changed: give a limit above 0")
            )
    if len(problems) > before or metric is None:
        return []
    component = Component(name, metric)
    problems += _direction(component, bounds, by == "group", path)
    return [
        Limit(
            name=name, kind=BOUNDS[key], bound=float(value), metric=component, by_group=by == "group", given=dict(given)
        )
        for key, value in bounds.items()
    ]


def _bounds(metric: AnyMetric | None) -> tuple[float, float]:
    from fairquant.roles.metric import bounds_of  # not at the top: recipes are read without torch

    return (-math.inf, math.inf) if metric is None else bounds_of(metric)


def _direction(metric: Component[AnyMetric], bounds: Mapping[str, object], by_group: bool, path: str) -> Problems:
    """Bounds on the side where nothing is worse, and gaps within one group."""
    from fairquant.roles.metric import lower_is_better  # not at the top: recipes are read without torch

    problems: Problems = []
    lower = lower_is_better(metric.value)
    for key, other, wrong in (("loss_at_most", "rise_at_most", lower), ("rise_at_most", "loss_at_most", not lower),
                              ("at_least", "at_most", lower), ("at_most", "at_least", not lower)):  # fmt: skip
        if key in bounds and wrong:
            which = "lower" if lower else "higher"
            problems.append((f"{path}.{key}", f"{metric.label} is better {which}: give {other}"))
    if by_group and metric.value.gap:
        problems.append((f"{path}.by", f"{metric.label} is a gap between groups: it has no value within one"))
    return problems


if TYPE_CHECKING:
    from fairquant.roles import AnyMetric
