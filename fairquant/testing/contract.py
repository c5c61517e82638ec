"""What a check is, how one is run, and the checks that every role shares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from fairquant.recipe.build import build
from fairquant.registry.registry import ROLES


class NotApplicable(Exception):
    """The rule says nothing about this component; the reason is the message."""


@dataclass(frozen=True)
class Check:
    """One rule of a role's contract. run(component) raises AssertionError, or anything, where it is broken."""

    name: str
    rule: str
    run: Callable[[Any], None]


@dataclass(frozen=True)
class Found:
    """What a check gave: "passed", "failed", "not applicable", or "expected" to fail as declared; with the reason."""

    check: str
    outcome: str
    reason: str = ""


def checks_of(functions: Sequence[Callable[[Any], None]]) -> tuple[Check, ...]:
    return tuple(Check(f.__name__, inspect.getdoc(f) or "", f) for f in functions)


def run_check(check: Check, component: Any, expected: Mapping[str, str]) -> Found:
    """Strict: a failure that was declared (there, or in the component's own `exempt`) but does not come is a failure."""
    declared = {**getattr(component, "exempt", {}), **expected}.get(check.name)
    try:
        if check.run not in SHARED:
            _can_be_called(component)
        check.run(component)
    except NotApplicable as reason:
        return Found(check.name, "not applicable", str(reason))
    except Exception as error:
        if declared is not None:
            return Found(check.name, "expected", declared)
        text = str(error).strip().split("\n")[0]
        kind = "" if isinstance(error, AssertionError) and text else f"{type(error).__name__}: "
        return Found(check.name, "failed", f"{check.rule.splitlines()[0]} {kind}{text}".strip())
    if declared is not None:
        return Found(check.name, "failed", f"it is declared to fail ({declared}) but passes: remove the declaration")
    return Found(check.name, "passed")


def _can_be_called(component: Any) -> None:
    try:
        signature_fits_the_role(component)
    except Exception as error:
        raise NotApplicable("the methods cannot be called: see signature_fits_the_role") from error


def everywhere(law: Callable[..., None], examples: int = 15, **strategies: Any) -> None:
    """Hold `law` against hypothesis' cases, the same ones each time."""
    from hypothesis import HealthCheck, Phase, given, settings

    quiet = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    quiet(given(**strategies)(law))()


# --- what every role shares --------------------------------------------------------------------------------------


def is_a_frozen_dataclass(component: Any) -> None:
    """A component is a frozen dataclass: its fields are its recipe keys."""
    cls = type(component)
    assert is_dataclass(cls), f"{cls.__name__} is not a dataclass"
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} is not frozen: @dataclass(frozen=True)"  # type: ignore[attr-defined]


def has_a_docstring(component: Any) -> None:
    """The class says what it computes."""
    text = type(component).__dict__.get("__doc__") or ""
    generated = f"{type(component).__name__}("
    assert text.strip() and not text.startswith(generated), f"{type(component).__name__} has no docstring"


def signature_fits_the_role(component: Any) -> None:
    """The role's methods can be called as the engine calls them."""
    role, protocol = role_of(component)
    for method in ROLES[role]:
        wanted = list(inspect.signature(getattr(protocol, method)).parameters)[1:]
        own = inspect.signature(getattr(component, method))
        try:
            own.bind(*wanted)
        except TypeError as error:
            raise AssertionError(f"{method}{own} cannot take ({', '.join(wanted)}): {error}") from error


def recipe_round_trip(component: Any) -> None:
    """Options written to a recipe and read again give the same component."""
    options = json.loads(json.dumps(asdict(component)))
    problems: list[tuple[str, str]] = []
    again = build(type(component), options, "options", "it", problems)
    assert not problems, "; ".join(f"{key}: {text}" for key, text in problems)
    assert again == component, f"{again!r} came back for {component!r}"


SHARED = (is_a_frozen_dataclass, has_a_docstring, signature_fits_the_role, recipe_round_trip)


def role_of(component: Any) -> tuple[str, Any]:
    """The role whose methods the component has, and its Protocol."""
    from fairquant import roles

    protocols = {
        "dataset": roles.Dataset, "importance": roles.Importance, "reducer": roles.Reducer, "allocator": roles.Allocator,
        "quantizer": roles.Quantizer, "regularizer": roles.Regularizer, "metric": roles.ConfusionMetric,
    }  # fmt: skip
    for role, methods in ROLES.items():
        if all(callable(getattr(component, method, None)) for method in methods):
            return role, protocols[role]
    raise AssertionError(f"{type(component).__name__} has the methods of no role: {ROLES}")
