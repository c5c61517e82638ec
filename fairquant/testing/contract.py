"""What a check is, how one is run, and the checks that every role shares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from fairquant.registry.build import build
from fairquant.registry.registry import ROLES
from fairquant.roles import DeclaresExemptions

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class NotApplicable(Exception):
    """The rule does not apply to this component; the message gives the reason."""


@dataclass(frozen=True)
class Check:
    """One rule of a role's contract. run(component) raises AssertionError, or any other exception, where it is broken."""

    name: str
    rule: str
    run: Callable[[Any], None]  # Any: each role's checks take its own Protocol


@dataclass(frozen=True)
class CheckResult:
    """outcome: "passed", "failed", "not applicable", or "expected" where the check failed as declared; with the reason."""

    check: str
    outcome: str
    reason: str = ""


def checks_of(functions: Sequence[Callable[[Any], None]]) -> tuple[Check, ...]:
    """Checks named after the functions, with their docstrings as rules."""
    return tuple(Check(f.__name__, inspect.getdoc(f) or "", f) for f in functions)


def run_check(check: Check, component: object, expected: Mapping[str, str]) -> CheckResult:
    """Run one check. expected: names of checks that are declared to fail, with the reason, in addition to those in the
    component's own `exempt`. A check that is declared to fail but passes counts as failed."""
    exempt = component.exempt if isinstance(component, DeclaresExemptions) else {}
    declared = {**exempt, **expected}.get(check.name)
    try:
        if check.run not in SHARED:
            _require_callable_methods(component)
        check.run(component)
    except NotApplicable as reason:
        return CheckResult(check.name, "not applicable", str(reason))
    except Exception as error:
        if declared is not None:
            return CheckResult(check.name, "expected", declared)
        text = str(error).strip().split("\n")[0]
        kind = "" if isinstance(error, AssertionError) and text else f"{type(error).__name__}: "
        rule = " ".join(check.rule.split()).rstrip(".")
        return CheckResult(check.name, "failed", f"{rule}. Here: {kind}{text}".removesuffix(". Here: "))
    if declared is not None:
        text = f"it is declared to fail ({declared}) but passes: remove the declaration"
        return CheckResult(check.name, "failed", text)
    return CheckResult(check.name, "passed")


def _require_callable_methods(component: object) -> None:
    try:
        signature_fits_the_role(component)
    except Exception as error:
        raise NotApplicable("the methods cannot be called: see signature_fits_the_role") from error


def for_all(law: Callable[..., None], examples: int = 15, **strategies: SearchStrategy[object]) -> None:
    """Call `law` with values drawn from hypothesis' strategies, the same values in every run."""
    from hypothesis import HealthCheck, Phase, given, settings

    configured = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    configured(given(**strategies)(law))()


# --- what every role shares --------------------------------------------------------------------------------------


def is_a_frozen_dataclass(component: object) -> None:
    """A component is a frozen dataclass: its fields are its recipe keys."""
    cls = type(component)
    assert is_dataclass(cls), f"{cls.__name__} is not a dataclass"
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} is not frozen: @dataclass(frozen=True)"  # type: ignore[attr-defined]


def has_a_docstring(component: object) -> None:
    """The class has a docstring that describes what it computes."""
    text = type(component).__dict__.get("__doc__") or ""
    generated = f"{type(component).__name__}("
    assert text.strip() and not text.startswith(generated), f"{type(component).__name__} has no docstring"


def signature_fits_the_role(component: object) -> None:
    """The role's methods can be called as the engine calls them."""
    role, protocol = role_of(component)
    for method in ROLES[role]:
        arguments = list(inspect.signature(getattr(protocol, method)).parameters)[1:]
        signature = inspect.signature(getattr(component, method))
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise AssertionError(f"{method}{signature} cannot take ({', '.join(arguments)}): {error}") from error


def recipe_round_trip(component: object) -> None:
    """Options written to a recipe and read again give an equal component."""
    assert is_dataclass(component) and not isinstance(component, type)
    options = json.loads(json.dumps(asdict(component)))
    problems: list[tuple[str, str]] = []
    restored = build(type(component), options, "options", "it", problems)
    assert not problems, "; ".join(f"{key}: {text}" for key, text in problems)
    assert restored == component, f"{component!r} became {restored!r}"


SHARED = (is_a_frozen_dataclass, has_a_docstring, signature_fits_the_role, recipe_round_trip)


def role_of(component: object) -> tuple[str, object]:
    """The role whose methods the component has, and its Protocol. AssertionError where there is none."""
    from fairquant import roles

    protocols: dict[str, object] = {
        "dataset": roles.Dataset, "importance": roles.Importance, "reducer": roles.Reducer, "allocator": roles.Allocator,
        "quantizer": roles.Quantizer, "rounding": roles.Rounding, "regularizer": roles.Regularizer, "metric": roles.ConfusionMetric,
    }  # fmt: skip
    for role, methods in ROLES.items():
        if all(callable(getattr(component, method, None)) for method in methods):
            return role, protocols[role]
    raise AssertionError(f"{type(component).__name__} has the methods of no role: {ROLES}")
