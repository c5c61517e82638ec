"""All checks by role, and running them on one component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from fairquant.testing import allocator, dataset, importance, metric, quantizer, reducer, regularizer
from fairquant.testing.contract import SHARED, Check, Found, NotApplicable, checks_of, run_check

#: Role to its checks: those that all roles share, then its own.
CHECKS: dict[str, tuple[Check, ...]] = {
    name: checks_of((*SHARED, *module.CHECKS))
    for name, module in {
        "dataset": dataset, "importance": importance, "reducer": reducer, "allocator": allocator,
        "quantizer": quantizer, "regularizer": regularizer, "metric": metric,
    }.items()
}  # fmt: skip


def instance_of(cls: type[Any]) -> Any:
    """A component to check: with the options of its `example`, else with none. Raises NotApplicable where it needs some."""
    try:
        return cls(**getattr(cls, "example", {}))
    except TypeError as error:
        wanted = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        raise NotApplicable(
            f"it cannot be made without {', '.join(wanted)}: give the class `example: ClassVar = {{...}}`"
        ) from error


def conformance(role: str, component: Any, expected_failures: Mapping[str, str] = {}) -> list[Found]:
    """Every check of the role on a component, in order."""
    return [run_check(check, component, expected_failures) for check in CHECKS[role]]
