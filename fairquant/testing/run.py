"""All checks by role, and running them on one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TypeVar

from fairquant.roles import HasExample
from fairquant.testing import allocator, dataset, importance, metric, quantizer, reducer, regularizer
from fairquant.testing.contract import SHARED, Check, CheckResult, NotApplicable, checks_of, run_check

T = TypeVar("T")

#: Role to its checks: those that all roles share, then its own.
CHECKS: dict[str, tuple[Check, ...]] = {
    name: checks_of((*SHARED, *module.CHECKS))
    for name, module in {
        "dataset": dataset, "importance": importance, "reducer": reducer, "allocator": allocator,
        "quantizer": quantizer, "regularizer": regularizer, "metric": metric,
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
