"""All checks by role, and running them on one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TypeVar

from fairquant.errors import suggestion
from fairquant.roles import DeclaresExemptions, HasExample
from fairquant.testing import allocator, dataset, importance, metric, quantizer, reducer, regularizer, rounding
from fairquant.testing.contract import SHARED, Check, CheckResult, NotApplicable, checks_of, role_of, run_check

T = TypeVar("T")


def exempts_known_rules(component: object) -> None:
    """`exempt`, where there is one, names checks of the component's role, each with its reason."""
    if not isinstance(component, DeclaresExemptions):
        raise NotApplicable("it keeps every rule")
    role, _ = role_of(component)
    known = [check.name for check in CHECKS[role]]
    for name, reason in component.exempt.items():
        assert name in known, f"no check of role {role!r} is called {name!r}.{suggestion(name, known)}"
        assert isinstance(reason, str) and reason, f"{name} has no reason"


#: Role to its checks: those that all roles share, then its own.
CHECKS: dict[str, tuple[Check, ...]] = {
    name: checks_of((*SHARED, exempts_known_rules, *module.CHECKS))
    for name, module in {
        "dataset": dataset, "importance": importance, "reducer": reducer, "allocator": allocator,
        "quantizer": quantizer, "rounding": rounding, "regularizer": regularizer, "metric": metric,
    }.items()
}  # fmt: skip


def instance_of(cls: type[T]) -> T:
    """A component to check, with the options of its `example`, else with its defaults.

    Raises NotApplicable where the class has required options and no example.
    """
    options: Mapping[str, object] = cls.example if isinstance(cls, HasExample) else {}
    try:
        return cls(**options)
    except TypeError as error:
        assert is_dataclass(cls)
        required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        raise NotApplicable(
            f"it cannot be made without {', '.join(required)}: give the class `example: ClassVar = {{...}}`"
        ) from error


def conformance(role: str, component: object, expected_failures: Mapping[str, str] = {}) -> list[CheckResult]:
    """The result of every check of the role on a component, in order."""
    return [run_check(check, component, expected_failures) for check in CHECKS[role]]
