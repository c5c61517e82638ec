"""Checks of the conformance kit against components that are broken in a known way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fairquant_fair.accuracy import group_accuracy, nan_spread

from fairquant.roles import Rates
from fairquant.testing import CHECKS, conformance

#: What every role shares; its broken components are in testing/test_contract.py and testing/test_run.py.
SHARED = {
    "is_a_frozen_dataclass",
    "has_a_docstring",
    "signature_fits_the_role",
    "recipe_round_trip",
    "exempts_known_rules",
}


def failures(role: str, component: object, expected: Mapping[str, str] = {}) -> dict[str, str]:
    """The checks of the role that fail on the component, with their reasons."""
    return {each.check: each.reason for each in conformance(role, component, expected) if each.outcome == "failed"}


def own_checks(role: str) -> set[str]:
    """The names of the role's own checks."""
    return {check.name for check in CHECKS[role]} - SHARED


@dataclass(frozen=True)
class Gap:
    """A sound metric."""

    needs: ClassVar = "confusion"
    gap: ClassVar = True

    def evaluate(self, confusion):
        accuracy = group_accuracy(confusion)
        return Rates(nan_spread(accuracy), accuracy)
