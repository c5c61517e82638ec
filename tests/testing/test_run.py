"""All checks of a role on one component; declared failures are strict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from helpers.contract import SHARED, Gap, failures

from fairquant.testing import CHECKS, conformance


@dataclass(frozen=True)
class NeverZero(Gap):
    """A gap that does not go below a tenth."""

    def evaluate(self, confusion):
        rates = Gap.evaluate(self, confusion)
        return replace(rates, value=rates.value + 0.1)


@dataclass(frozen=True)
class ExemptFromNothing(Gap):
    """Declares a rule that does not exist."""

    exempt: ClassVar = {"equal_groups": "it is my wish"}


def test_an_exemption_names_a_check_that_there_is():
    assert list(failures("metric", ExemptFromNothing())) == ["exempts_known_rules"]


def test_every_role_has_the_shared_checks_and_some_of_its_own():
    for role, checks in CHECKS.items():
        names = [check.name for check in checks]
        assert len(set(names)) == len(names)
        assert set(names) > SHARED, role


def test_declared_failures_are_strict():
    expected = {"equal_groups_have_no_gap": "it never goes below a tenth"}
    assert "expected" in [each.outcome for each in conformance("metric", NeverZero(), expected)]
    strict = failures("metric", Gap(), expected)
    assert list(strict) == ["equal_groups_have_no_gap"]
    assert "but passes: remove the declaration" in strict["equal_groups_have_no_gap"]
