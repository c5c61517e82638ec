"""What a component may say of itself, for the conformance kit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from fairquant.roles import DeclaresExemptions, HasExample
from fairquant.testing.contract import NotApplicable
from fairquant.testing.run import instance_of


@dataclass(frozen=True)
class Needy:
    group: str


@dataclass(frozen=True)
class Exemplary(Needy):
    example: ClassVar = {"group": "dark"}


def test_an_example_gives_the_options_that_have_no_default():
    assert isinstance(Exemplary("light"), HasExample)
    assert not isinstance(Needy("light"), HasExample)
    assert instance_of(Exemplary) == Exemplary("dark")
    with pytest.raises(NotApplicable, match="cannot be made without group"):
        instance_of(Needy)


def test_exemptions_may_be_a_property_of_the_options():
    @dataclass(frozen=True)
    class Sums:
        over: str = "image"

        @property
        def exempt(self):
            return {"batches_do_not_matter": "batches matter"} if self.over == "batch" else {}

    assert isinstance(Sums(), DeclaresExemptions)
    assert not Sums().exempt
    assert Sums("batch").exempt
