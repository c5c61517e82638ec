"""A pytest class per role: subclass it and override the fixture `component`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from fairquant.errors import suggestion
from fairquant.testing.contract import Check, run_check
from fairquant.testing.run import CHECKS


class Suite:
    """What the suites share. expected_failures: check -> reason; a check listed there must fail."""

    role: ClassVar[str] = ""
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def component(self) -> object:
        raise NotImplementedError("override the fixture `component`: return an instance of your class")

    def __init_subclass__(cls) -> None:
        """Generate the tests of a role's suite; TypeError where a subclass expects an unknown check to fail."""
        super().__init_subclass__()
        if "role" in cls.__dict__:  # one of the suites below
            for check in CHECKS[cls.role]:
                setattr(cls, f"test_{check.name}", _test(check))
        known = [check.name for check in CHECKS.get(cls.role, ())]
        for name in cls.expected_failures:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__}.expected_failures: no check of role {cls.role!r} is called {name!r}."
                    f"{suggestion(name, known)} Checks: {', '.join(known)}"
                )


def _test(check: Check) -> Callable[..., None]:
    def test(self: Suite, component: object, record_property: Callable[[str, object], None]) -> None:
        result = run_check(check, component, self.expected_failures)
        record_property("fairquant", f"{self.role} {type(component).__name__}|{result.outcome}")
        if result.outcome == "failed":
            pytest.fail(result.reason, pytrace=False)
        if result.outcome == "expected":
            pytest.xfail(result.reason)
        if result.outcome == "not applicable":
            pytest.skip(result.reason)

    test.__doc__ = check.rule
    return test


class DatasetSuite(Suite):
    role = "dataset"


class ImportanceSuite(Suite):
    role = "importance"


class ReducerSuite(Suite):
    role = "reducer"


class AllocatorSuite(Suite):
    role = "allocator"


class QuantizerSuite(Suite):
    role = "quantizer"


class RoundingSuite(Suite):
    role = "rounding"


class RegularizerSuite(Suite):
    role = "regularizer"


class MetricSuite(Suite):
    role = "metric"
