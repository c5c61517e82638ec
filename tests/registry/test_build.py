"""From plain data to data classes: everything wrong at once, each with its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field

from fairquant.registry.build import build


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Settings:
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    epochs: Annotated[int, Field(ge=1)] = 3
    kind: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()
    inner: Inner | None = None

    def __post_init__(self) -> None:
        if "bad" in self.names:
            raise ValueError("names: 'bad' is not a good name")


@dataclass(frozen=True)
class Needy:
    table: str


def problems_of(values: object, cls: type = Settings) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    build(cls, values, "train", "train", problems)
    return problems


@dataclass(frozen=True, kw_only=True)
class Given:
    scale: float = float("inf")
    pairs: tuple[float, ...] = ()
    name: str = ""


def test_good_values_make_the_data_class():
    problems: list = []
    built = build(Settings, {"rate": 1, "names": ["a", "b"], "inner": {"depth": 2}}, "train", "train", problems)
    assert built == Settings(rate=1.0, names=("a", "b"), inner=Inner(2))
    assert not problems


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"rate": 0}, ("train.rate", "must be greater than 0, got 0")),
        ({"rate": 1.5}, ("train.rate", "must be at most 1, got 1.5")),
        ({"epochs": 0}, ("train.epochs", "must be at least 1, got 0")),
        ({"epochs": 2.5}, ("train.epochs", "expected a whole number, got 2.5")),
        ({"kind": "fats"}, ("train.kind", "'fats' is not one of fast, slow. Did you mean 'fast'?")),
        ({"names": "a"}, ("train.names", "expected a list, got 'a'")),
        ({"names": ["bad"]}, ("train.names", "'bad' is not a good name")),
        ({"inner": {"depth": "x"}}, ("train.inner.depth", "expected a whole number, got 'x'")),
        (3, ("train", "expected a mapping, got 3")),
    ],
)
def test_a_bad_value_is_reported_at_its_key(values, problem):
    assert problems_of(values) == [problem]


@dataclass(frozen=True)
class Named:
    map: dict[str, str | int]


@dataclass(frozen=True)
class Several:
    attributes: tuple[str, ...] | dict[str, Named] = ()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"sex": {"map": {"M": None}}}, ("train.attributes.sex.map.M", "expected text or a whole number, got None")),
        ({"sex": 5}, ("train.attributes.sex", "expected a mapping, got 5")),
        (5, ("train.attributes", "expected a list or a mapping, got 5")),
    ],
)
def test_of_several_forms_the_one_that_fits_farthest_is_reported(given, problem):
    assert problems_of({"attributes": given}, Several) == [problem]


def test_everything_wrong_is_reported_at_once():
    assert [key for key, _ in problems_of({"rate": 0, "epochs": 0, "speed": 1})] == [
        "train.speed",
        "train.rate",
        "train.epochs",
    ]


def test_an_unknown_option_is_reported_with_the_known_ones():
    ((key, text),) = problems_of({"epoch": 1})
    assert key == "train.epoch"
    assert text == "train has no option 'epoch'. Did you mean 'epochs'? Options: rate, epochs, kind, names, inner"


def test_a_text_that_names_no_finite_number_is_not_one():
    problems = []
    assert build(Given, {"scale": "nan", "pairs": ["1", "-inf"], "name": "nan"}, "given", "given", problems) is None
    assert problems == [
        ("given.scale", "must be a finite number, got 'nan'"),
        ("given.pairs", "must be a finite number, got ['1', '-inf']"),
    ]
    assert build(Given, {"name": "nan"}, "given", "given", problems).scale == float("inf")  # a default of its own


def test_an_option_that_was_renamed_says_its_new_name():
    assert problems_of({"settle_after": 0.5}) == [
        ("train.settle_after", "this option is now called 'freeze_bits_after'")
    ]


def test_an_option_without_default_is_needed():
    assert problems_of({}, Needy) == [("train.table", "train needs this option")]
